"""Metrics of verbs, nouns and actions against formulas of their own: the challenge's rules, written out with NumPy."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from configs import load_config
from configs.schema import DataSection
from engine.scoring.actions import Actions, best_pairs, find_actions
from engine.scoring.evaluation import Evaluation, compute_metrics
from engine.scoring.plots import by_frequency
from engine.scoring.reports import summarize, worst_confusions, write_reports
from engine.scoring.subsets import find_subsets
from models.targets import marginal

REAL = Path(__file__).parents[4] / "shared/data/epic_annotations"
SIZES = {"verb": 97, "noun": 300}
BEST = 100  # of the challenge: verbs, nouns and pairs that are looked at


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def challenge_pairs(verbs: np.ndarray, nouns: np.ndarray) -> Iterator[list[tuple[int, int]]]:
    """The best pairs of each clip: the 100 best verbs and nouns, softmax of each, outer product, the 100 best."""
    for v, n in zip(verbs, nouns, strict=True):
        top_v, top_n = (np.argsort(x)[::-1][:BEST] for x in (v, n))
        products = np.outer(softmax(v[top_v]), softmax(n[top_n]))
        places = np.argsort(products, axis=None)[::-1][:BEST]
        rows, columns = np.unravel_index(places, products.shape)
        yield list(zip(top_v[rows].tolist(), top_n[columns].tolist(), strict=True))


def write_lists(folder: Path) -> None:
    lists = {"unseen_participant_ids_validation": ["participant_id", "P18"], "tail_verbs": ["verb", *range(40, 97)]}
    for name, lines in (lists | {"tail_nouns": ["noun", *range(90, 300)]}).items():
        (folder / f"EPIC_100_{name}.csv").write_text("\n".join(map(str, lines)))


@pytest.fixture(params=["drawn", "real"])
def clips(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[str], np.ndarray]:
    """The annotations' folder, the participants [N], and verb and noun of the clips [N, 2]."""
    if request.param == "drawn":
        write_lists(tmp_path)
        generator = np.random.default_rng(0)
        labels = np.stack([generator.integers(0, size, 400) for size in SIZES.values()], axis=1)
        return tmp_path, generator.choice(["P01", "P18"], 400).tolist(), labels
    if not REAL.is_dir():
        pytest.skip("EPIC's annotations are not there")
    with open(REAL / "EPIC_100_validation.csv", newline="") as file:
        rows = list(csv.DictReader(file))[::7]
    labels = np.array([(int(row["verb_class"]), int(row["noun_class"])) for row in rows])
    return REAL, [row["participant_id"] for row in rows], labels


def data_of(folder: Path) -> DataSection:
    annotations = f"{{train: [{folder}/EPIC_100_train.csv], val: [{folder}/EPIC_100_validation.csv]}}"
    return load_config("base.yaml", [f"data.annotations={annotations}", "data.preset=epic-100"]).data


def evaluated(scores: dict[str, np.ndarray], labels: np.ndarray, participants: list[str], folder: Path) -> Evaluation:
    found = {name: torch.from_numpy(labels[:, n]) for n, name in enumerate(SIZES)}
    logits = {name: torch.from_numpy(values) for name, values in scores.items()}
    of = [
        Evaluation(
            participants, found[name], logits[name], None, None, None, compute_metrics(logits[name], found[name])
        )
        for name in SIZES
    ]
    masks = find_subsets(data_of(folder), "val").masks(participants, found)
    return replace(
        of[0], targets=dict(zip(SIZES, of, strict=True)), actions=find_actions(logits, found, None), masks=masks
    )


def test_metrics_are_those_of_the_challenges_rules(clips: tuple[Path, list[str], np.ndarray]):
    folder, participants, labels = clips
    generator = np.random.default_rng(1)
    scores = {name: generator.normal(size=(len(labels), size)) for name, size in SIZES.items()}
    for n, values in enumerate(scores.values()):  # so that some are right
        values[np.arange(len(labels)), labels[:, n]] += 2
    numbers = summarize(evaluated(scores, labels, participants, folder))

    with open(folder / "EPIC_100_tail_verbs.csv") as verbs, open(folder / "EPIC_100_tail_nouns.csv") as nouns:
        tails = [set(map(int, file.read().split()[1:])) for file in (verbs, nouns)]
    unseen = np.isin(participants, (folder / "EPIC_100_unseen_participant_ids_validation.csv").read_text().split()[1:])
    tail = [np.array([label in classes for label in labels[:, n]]) for n, classes in enumerate(tails)]
    ranked = {name: np.argsort(values, axis=1)[:, ::-1] for name, values in scores.items()}
    hits = {name: ranked[name][:, :5] == labels[:, n : n + 1] for n, name in enumerate(SIZES)}
    pairs = [found[:5] for found in challenge_pairs(*scores.values())]
    hits["action"] = np.array(
        [[pair == tuple(label) for pair in found] for found, label in zip(pairs, labels.tolist(), strict=True)]
    )
    tails_of = {"verb": tail[0], "noun": tail[1], "action": tail[0] | tail[1]}
    for name, hit in hits.items():
        assert 0.02 < hit[:, 0].mean() < 0.98
        assert numbers[f"{name}_top1"] == pytest.approx(hit[:, 0].mean(), abs=1e-12)
        assert numbers[f"{name}_top5"] == pytest.approx(hit.any(axis=1).mean(), abs=1e-12)
        assert numbers[f"unseen_{name}_top1"] == pytest.approx(hit[unseen, 0].mean(), abs=1e-12)
        assert numbers[f"tail_{name}_top1"] == pytest.approx(hit[tails_of[name], 0].mean(), abs=1e-12)
    keys = {"verb": labels[:, 0], "noun": labels[:, 1], "action": labels[:, 0] * 1000 + labels[:, 1]}
    for name, key in keys.items():
        mean_class = np.mean([hits[name][key == value, 0].mean() for value in np.unique(key)])
        assert numbers[f"{name}_mean_class"] == pytest.approx(mean_class, abs=1e-12)
    assert [numbers[key] for key in ("top1", "top5")] == [numbers["action_top1"], numbers["action_top5"]]


def test_the_best_pairs_are_those_of_all_products():
    generator = torch.Generator().manual_seed(0)
    verbs, nouns = torch.randn(20, 7, generator=generator), torch.randn(20, 3, generator=generator)
    products = verbs.double().softmax(1)[:, :, None] * nouns.double().softmax(1)[:, None]
    places = products.flatten(1).argsort(dim=1, descending=True)[:, :5]
    expected = torch.stack([places // 3, places % 3], dim=2)
    assert torch.equal(best_pairs(verbs, nouns), expected)


def test_a_head_for_actions_ranks_its_own_pairs():
    pairs = torch.tensor([[0, 1], [1, 0], [1, 1]])
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    labels = {"verb": torch.tensor([1]), "noun": torch.tensor([1])}
    scores = {"action": logits, "verb": marginal(logits, pairs[:, 0]), "noun": marginal(logits, pairs[:, 1])}
    actions = find_actions(scores, labels, pairs)
    assert actions.best.tolist() == [[[1, 0], [1, 1], [0, 1]]]
    assert (actions.top1, actions.top5) == (0, 1)


def test_clips_without_a_verb_or_a_noun_do_not_count():
    best = torch.tensor([[[0, 0]], [[1, 1]], [[2, 2]]])
    assert Actions(torch.tensor([[0, 0], [1, -1], [1, 2]]), best).top1 == 0.5
    nothing = Actions(torch.full((3, 2), -1), best)
    assert (nothing.top1, nothing.top5, nothing.mean_class) == (None, None, None)


def test_a_preset_that_numbers_classes_anew_numbers_the_tail_so(tmp_path: Path):
    write_lists(tmp_path)
    data = data_of(tmp_path)
    preset = data.rows.model_copy(update={"classes": {"verb": [50, 3, 40]}})
    data = data.model_copy(update={"presets": {"epic-100": preset}})
    assert find_subsets(data, "val").tail["verb"] == {0, 2}
    assert find_subsets(data_of(tmp_path / "elsewhere"), "val").masks(["P18"], {}) == {}
    (tmp_path / "EPIC_100_tail_verbs.csv").write_text("verb_class\n50\n")
    with pytest.raises(UserError, match=r"EPIC_100_tail_verbs.csv: allowed: a column verb with a value in each line"):
        find_subsets(data, "val")


def test_many_classes_are_drawn_by_frequency_and_written_by_name(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.full((30 // (n + 1),), (7 * n) % 40) for n in range(20)])  # 0, 7, 14, ...: ever rarer
    logits = torch.randn(len(labels), 40, generator=generator)
    names = [f"class {n}" for n in range(40)]
    clips = [f"clip{n}" for n in range(len(labels))]
    metrics = compute_metrics(logits, labels)
    assert metrics is not None
    write_reports(Evaluation(clips, labels, logits, None, None, None, metrics, names), tmp_path)
    assert by_frequency(metrics.confusion).tolist()[:4] == [0, 7, 14, 21]
    assert len(by_frequency(metrics.confusion)) == 20
    with open(tmp_path / "confused.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = logits.argmax(dim=1) != labels
    assert sum(int(row["clips"]) for row in rows) == int(wrong.sum())
    assert all(row["label_name"] == f"class {row['label']}" for row in rows)
    for name in ("confusion.png", "frequency.png"):
        assert Image.open(tmp_path / name).width > 800


def test_the_worst_confusions_come_first():
    confusion = torch.tensor([[5, 1, 3], [0, 4, 0], [3, 0, 0]])
    metrics = SimpleNamespace(confusion=confusion)
    assert worst_confusions(metrics) == [(0, 2, 3), (2, 0, 3), (0, 1, 1)]  # type: ignore[arg-type]
    assert confusion[0, 0] == 5
