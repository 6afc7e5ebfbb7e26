"""A tiny set of verbs and nouns in EPIC-KITCHENS' form, from its annotations to the challenge's files."""

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import eval as evaluation
import predict
import train
from preprocess import pack
from tests import runs
from tests.trees import Video, write_video

HEADER = (
    *("narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp"),
    *("start_frame", "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class"),
    *("all_nouns", "all_noun_classes"),
)
VERBS, NOUNS = ("take", "put", "wash"), ("tap", "spoon", "plate", "cup")
SPANS = ((1, 16), (17, 32), (33, 48))
SPLITS = {  # verb and noun of each clip; None: nobody says
    "EPIC_100_train.csv": {"P01_01": [(0, 0), (1, 1), (2, 2)], "P01_02": [(0, 1), (1, 3), (2, 2)]},
    "EPIC_100_validation.csv": {"P01_03": [(0, 0), (1, 1), (2, 2)], "P18_01": [(0, 3), (1, 1), (2, 0)]},
    "EPIC_100_test_timestamps.csv": {"P02_01": [None, None, None]},
}
PAIRS = sorted({pair for clips in [*SPLITS.values()][:2] for pairs in clips.values() for pair in pairs if pair})
LISTS = {
    "EPIC_100_unseen_participant_ids_validation.csv": ("participant_id", "P18"),
    "EPIC_100_tail_verbs.csv": ("verb", "2"),
    "EPIC_100_tail_nouns.csv": ("noun", "3"),
}
TARGETS = ("model.targets=[verb,noun]", "model.num_classes={verb: 3, noun: 4}")
LIGHT = ("model.fusion=rgb", "train.epochs=1", "loader.batch_size=3", "--quiet")
one_thread, undrawn, shallow = runs.one_thread, runs.undrawn, runs.shallow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write the annotations and the frames; return the overrides that name them."""
    folder = tmp_path_factory.mktemp("epic")
    for name, videos in SPLITS.items():
        with open(folder / name, "w", newline="") as file:
            writer = csv.DictWriter(file, HEADER if "test" not in name else HEADER[:8])
            writer.writeheader()
            for video, pairs in videos.items():
                write_video(folder / "frames", Video(video, num_frames=48))
                for number, ((start, stop), pair) in enumerate(zip(SPANS, pairs, strict=True)):
                    row: dict[str, Any] = dict.fromkeys(HEADER[:8], "")
                    row |= {"narration_id": f"{video}_{number}", "participant_id": video[:3], "video_id": video}
                    row |= {"start_frame": start, "stop_frame": stop}
                    if pair:
                        row |= {"verb": VERBS[pair[0]], "verb_class": pair[0]}
                        row |= {"noun": NOUNS[pair[1]], "noun_class": pair[1]}
                    writer.writerow(row)
    for name, lines in LISTS.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    splits = zip(("train", "val", "test"), SPLITS, strict=True)
    return [
        *("-c", str(runs.CONFIG), "data.preset=epic-100", "data.workers=1", "data.streams=[rgb]"),
        f"data.annotations={{{', '.join(f'{split}: [{folder / name}]' for split, name in splits)}}}",
        *(f"data.frames={folder / 'frames'}", f"data.shards={folder / 'shards'}"),
    ]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def shares(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def test_from_the_plan_to_the_submission(data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert pack.main([*data, "--plan"]) == 0
    assert "Classes of noun: 4" in capsys.readouterr().out
    assert pack.main(data) == 0
    arguments = [*data, *runs.SMALL, *TARGETS, *LIGHT, f"runs={tmp_path}", "name=two"]
    assert train.main([*arguments, "train.monitor=action_top1"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "two/metrics.jsonl").read_text().splitlines()]
    (trained,) = (line for line in lines if line["kind"] == "epoch")
    assert trained["loss"] == pytest.approx(trained["loss/cls_verb"] + trained["loss/cls_noun"])
    (val,) = (line for line in lines if line["kind"] == "val")
    summary = json.loads((tmp_path / "two/summary.json").read_text())
    assert summary["val"]["action_top1"] == summary["val"]["top1"] == val["action_top1"]
    assert summary["test"] is None

    assert evaluation.main([str(tmp_path / "two"), "--split", "val", "--export", "epic", "--quiet"]) == 0
    scored = json.loads((tmp_path / "two/val/metrics.json").read_text())
    assert {key: scored[key] for key in val.keys() & scored.keys() - {"clips_per_s"}} == pytest.approx(
        {key: val[key] for key in val.keys() & scored.keys() - {"clips_per_s"}}
    )
    page = (tmp_path / "two/val/report.html").read_text("utf-8")
    for name in ("verb", "noun"):
        assert f"{name}: classes" in page
        assert f"{name}: surest mistakes" in page
    assert "action top-1 on val" in page
    verb, noun = (rows(tmp_path / "two/val" / name / "predictions.csv") for name in ("verb", "noun"))
    hits = [(v["label"] == v["prediction"], n["label"] == n["prediction"]) for v, n in zip(verb, noun, strict=True)]
    unseen = [row["clip_id"].startswith("P18") for row in verb]
    tail = [v["label"] == "2" or n["label"] == "3" for v, n in zip(verb, noun, strict=True)]
    both = [v and n for v, n in hits]
    assert scored["verb_top1"] == shares([v for v, _ in hits])
    assert scored["action_top1"] == scored["top1"] == shares(both)
    assert scored["unseen_noun_top1"] == shares([n for (_, n), new in zip(hits, unseen, strict=True) if new])
    assert scored["tail_action_top1"] == shares([hit for hit, rare in zip(both, tail, strict=True) if rare])
    assert noun[3]["label_name"] == "cup"
    assert (tmp_path / "two/val/noun/confused.csv").is_file()
    assert rows(tmp_path / "two/val/actions.csv")[3]["noun"] == "3"

    hidden = [str(tmp_path / "two"), "--split", "test", "--export", "epic", "--sls-td", "3", "--quiet"]
    assert evaluation.main(hidden) == 0
    results = torch.load(tmp_path / "two/test/epic.pt", weights_only=True)
    with zipfile.ZipFile(tmp_path / "two/test/epic-submission.zip") as archive:
        assert archive.namelist() == ["test.json"]
        content = json.loads(archive.read("test.json"), parse_constant=pytest.fail)
    about = {key: content[key] for key in content if key != "results"}
    assert about == {"version": "0.2", "challenge": "action_recognition", "sls_pt": 2, "sls_tl": 3, "sls_td": 3}
    assert (
        [result["narration_id"] for result in results] == list(content["results"]) == [f"P02_01_{n}" for n in (0, 1, 2)]
    )
    written = rows(tmp_path / "two/test/noun/predictions.csv")
    for result, row in zip(results, written, strict=True):
        nouns = content["results"][row["clip_id"]]["noun"]
        assert len(nouns) == 300
        assert result["noun_output"].shape == (300,)
        assert result["verb_output"].shape == (97,)
        for scores in (result["noun_output"].double(), torch.tensor([nouns[str(k)] for k in range(300)]).double()):
            expected = torch.tensor([float(row[f"score_{k}"]) for k in range(4)]).double()
            torch.testing.assert_close(scores.softmax(dim=0)[:4], expected, rtol=1e-6, atol=1e-9)
    assert {row["label"] for row in written} == {"-1"}

    shards = next(word for word in data if word.startswith("data.shards=")).removeprefix("data.shards=")
    assert predict.main([str(tmp_path / "two"), f"{shards}/val", "-o", str(tmp_path / "new"), "--quiet"]) == 0
    first = rows(tmp_path / "new/predictions.csv")
    assert [row["prediction_name"] for row in first] == [VERBS[int(row["prediction"])] for row in verb]
    assert [row["score_2"] for row in first] == [row["score_2"] for row in verb]


def test_a_head_for_actions_tells_verbs_and_nouns_by_marginals(data: list[str], tmp_path: Path, capsys):
    assert pack.main([*data, "--quiet"]) == 0
    arguments = [*data, *runs.SMALL, *LIGHT, f"runs={tmp_path}", "name=pairs", "model.targets=[action]"]
    assert train.main([*arguments, "model.num_classes=5"]) == 2
    assert f"model.num_classes: found 5 for action; allowed: {len(PAIRS)}, the pairs of verb" in capsys.readouterr().err
    assert train.main([*arguments, f"model.num_classes={len(PAIRS)}", "train.monitor=verb_mean_class"]) == 0
    assert evaluation.main([str(tmp_path / "pairs"), "--split", "val", "--quiet"]) == 0
    folder = tmp_path / "pairs/val"
    scored = json.loads((folder / "metrics.json").read_text())
    best = [(int(row["verb_1"]), int(row["noun_1"])) for row in rows(folder / "actions.csv")]
    labels = [pair for pairs in SPLITS["EPIC_100_validation.csv"].values() for pair in pairs]
    assert set(best) <= set(PAIRS)
    assert scored["action_top1"] == shares([one == other for one, other in zip(best, labels, strict=True)])
    for row in rows(folder / "verb/predictions.csv"):
        assert sum(float(row[f"score_{k}"]) for k in range(3)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train.monitor=verb_top1",), "train.monitor: found 'verb_top1'; allowed: top1, mean_class, loss"),
        (
            (*TARGETS, "train.monitor=nuon_top1"),
            "allowed: top1, mean_class, loss, verb_top1, verb_mean_class, noun_top1, noun_mean_class, action_top1",
        ),
    ],
)
def test_a_metric_that_the_targets_do_not_give_is_refused_with_the_allowed(data, overrides, message, capsys):
    assert train.main([*data, *runs.SMALL, *overrides]) == 2
    assert message in capsys.readouterr().err


def test_a_target_that_the_data_do_not_have_is_refused(data: list[str], tmp_path: Path, capsys):
    assert pack.main([*data, "--quiet"]) == 0
    wrong = ("model.targets=[verb,tool]", "model.num_classes={verb: 3, tool: 4}", f"runs={tmp_path}")
    assert train.main([*data, *runs.SMALL, *LIGHT, *wrong]) == 1
    assert "its clips have no target 'tool'; they have: verb, noun; name one of these in" in capsys.readouterr().err
