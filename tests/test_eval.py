"""The command eval.py, through the real shards, loader and models."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import eval as evaluation
import train
from benchmarks.training.published import METHODS as PUBLISHED
from configs import load_config
from engine.runs.checkpoint import plain_config, save_checkpoint
from models import build_model
from pipeline.format.index import index_checksum
from pipeline.loader import ClipLoader
from preprocess import pack
from tests import runs
from tests.runs import MakeArguments, MakeConfig
from tests.torchrun import forked

data, arguments, config = runs.data, runs.arguments, runs.config  # fixtures
one_thread, undrawn, shallow = runs.one_thread, runs.undrawn, runs.shallow


@pytest.fixture
def best(config: MakeConfig, tmp_path: Path) -> Path:
    """A checkpoint of random weights, with BatchNorm's statistics of noise, so that clips score differently."""
    settings = config("model.fusion=rgb")
    torch.manual_seed(0)
    model = build_model(**settings.model.model_dump())
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = 1.0
    model(torch.randint(0, 256, (4, 3, 8, 32, 32), dtype=torch.uint8), None)
    save_checkpoint(tmp_path / "best.pt", {"model": model.state_dict(), "config": plain_config(settings)})
    return tmp_path / "best.pt"


def command(arguments: MakeArguments, best: Path, *more: str) -> list[str]:
    return [*arguments("model.fusion=rgb"), "--checkpoint", str(best), *more]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_agree_with_one_another(arguments: MakeArguments, best: Path, tmp_path: Path, capsys):
    assert evaluation.main(command(arguments, best, "--split", "val", "-o", str(tmp_path / "out"))) == 0
    out = tmp_path / "out"
    predictions = rows(out / "predictions.csv")
    assert [row["clip_id"] for row in predictions] == [f"P02_0{v}_{n}" for v in (1, 2) for n in range(3)]
    correct = sum(row["label"] == row["prediction"] for row in predictions)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["top1"] == pytest.approx(correct / 6)
    assert metrics["clips"] == 6
    per_class = rows(out / "per_class.csv")
    assert [row["clips"] for row in per_class] == ["2", "2", "2", "0", "0", "0"]
    assert sum(int(row["correct"]) for row in per_class) == correct
    accuracies = [float(row["accuracy"]) for row in per_class if row["accuracy"]]
    assert metrics["mean_class"] == pytest.approx(sum(accuracies) / 3)
    confusion = rows(out / "confusion.csv")
    assert sum(int(row[f"predicted_{row['label']}"]) for row in confusion) == correct
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert f"top-1 {correct / 6:.1%}" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_split_is_scored_whole_beside_its_checkpoint(split: str, arguments: MakeArguments, best: Path):
    assert evaluation.main(command(arguments, best, "--split", split, "--quiet")) == 0
    assert len(rows(best.parent / split / "predictions.csv")) == {"train": 12, "test": 3}[split]


@pytest.mark.slow
def test_several_views_are_one_line_per_clip_on_any_number_of_processes(arguments: MakeArguments, best: Path):
    scoring = command(arguments, best, "--split", "val", "--views", "2", "--crops", "3", "--quiet")
    assert evaluation.main(scoring) == 0
    alone = rows(best.parent / "val-2x3" / "predictions.csv")
    assert [row["clip_id"] for row in alone] == [f"P02_0{v}_{n}" for v in (1, 2) for n in range(3)]
    metrics = json.loads((best.parent / "val-2x3" / "metrics.json").read_text())
    assert (metrics["clips"], metrics["views"], metrics["crops"]) == (6, 2, 3)
    _, codes = forked("eval", *scoring, "-o", str(best.parent / "both"), ranks=2)
    assert codes == [0, 0]
    for one, two in zip(alone, rows(best.parent / "both" / "predictions.csv"), strict=True):
        assert one["prediction"] == two["prediction"]
        scores = [[float(row[f"score_{label}"]) for label in range(6)] for row in (one, two)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-5)  # of batches of another size
    assert len({row["score_0"] for row in alone}) == 6


def test_views_of_no_more_frames_than_seen_are_noted(arguments: MakeArguments, best: Path, capsys):
    assert evaluation.main([*command(arguments, best, "--views", "2"), "clip.num_frames=16"]) == 0
    assert "note: --views 2 sees the same frames over and over" in capsys.readouterr().out


def test_the_challenge_s_code_reads_the_export_and_finds_our_accuracy(
    arguments: MakeArguments, best: Path, tmp_path: Path
):
    scoring = command(arguments, best, "--split", "train", "--export", "epic", "-o", str(tmp_path), "--quiet")
    assert evaluation.main(scoring) == 0
    # As its load_results does: a list of dicts, each key stacked into an array; and as it ranks: descending argsort.
    results = torch.load(tmp_path / "epic.pt", map_location=torch.device("cpu"), weights_only=True)
    arrays = {key: np.array([result[key] for result in results]) for key in results[0]}
    assert {key: array.shape for key, array in arrays.items()} == {
        "verb_output": (12, 97),
        "noun_output": (12, 300),
        "narration_id": (12,),
    }
    assert arrays["verb_output"].dtype == arrays["noun_output"].dtype == np.float32
    predictions = rows(tmp_path / "predictions.csv")
    assert arrays["narration_id"].tolist() == [row["clip_id"] for row in predictions]
    assert np.isneginf(arrays["verb_output"][:, 6:]).all()
    ranks = arrays["verb_output"].argsort(axis=-1)[:, ::-1]
    labels = np.array([int(row["label"]) for row in predictions]).reshape(-1, 1)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for k in (1, 5):
        assert (ranks[:, :k] == labels).max(1).mean() == pytest.approx(metrics[f"top{k}"])
    # Its action scores are products of softmaxes over whole arrays: -inf must not make them NaN.
    for scores in (arrays["verb_output"], arrays["noun_output"]):
        shares = np.exp(scores - scores.max())
        assert np.isfinite(shares / shares.sum()).all()


def test_more_classes_than_the_challenge_has_verbs_are_refused(arguments: MakeArguments, best: Path, capsys):
    assert evaluation.main([*command(arguments, best, "--export", "epic"), "model.num_classes=98"]) == 2
    assert "--export epic: model.num_classes is 98; the challenge has 97 verbs" in capsys.readouterr().err


def test_a_checkpoint_of_another_model_is_refused_with_both_values(arguments: MakeArguments, best: Path, capsys):
    assert evaluation.main([*command(arguments, best), "model.hidden_size=16"]) == 2
    assert "was trained with another model section: hidden_size: was 8, is 16" in capsys.readouterr().err


def test_a_checkpoint_from_before_an_option_is_of_its_default(arguments: MakeArguments, best: Path, capsys):
    state = torch.load(best, weights_only=True)
    del state["config"]["model"]["trunk"], state["config"]["clip"]["synchronized"]
    save_checkpoint(best, state)
    assert evaluation.main(command(arguments, best)) == 0
    assert "not seen as in training" not in capsys.readouterr().out


def test_clips_seen_otherwise_than_in_training_are_noted(arguments: MakeArguments, best: Path, tmp_path: Path, capsys):
    scoring = [*command(arguments, best, "--split", "val"), "-o", str(tmp_path / "scores")]
    assert evaluation.main([*scoring, "clip.mirror=0"]) == 0
    assert "not seen as in training" not in capsys.readouterr().out
    assert evaluation.main([*scoring, "clip.crop_size=48"]) == 0
    assert "not seen as in training: clip.crop_size: was 32, is 48" in capsys.readouterr().out


def test_a_checkpoint_that_lacks_a_weight_is_refused(arguments: MakeArguments, best: Path, tmp_path: Path, capsys):
    state = torch.load(best, weights_only=True)
    name = next(iter(state["model"]))
    del state["model"][name]
    save_checkpoint(tmp_path / "lacking.pt", state)
    assert evaluation.main(command(arguments, tmp_path / "lacking.pt")) == 1
    assert f"lacking.pt: does not fit this model: missing: {name}" in capsys.readouterr().err


def test_pretrained_weights_are_not_needed_any_more(arguments: MakeArguments, best: Path, config: MakeConfig):
    settings = plain_config(config("model.fusion=rgb"))
    settings["model"]["pretrained"] = {"rgb": "/gone/rgb_imagenet.pt", "flow": None}
    state = torch.load(best, weights_only=True)
    save_checkpoint(best, {**state, "config": settings})
    assert evaluation.main(command(arguments, best, "--quiet")) == 0


def test_weights_alone_as_ddp_names_them_score_as_the_runs_checkpoint(
    arguments: MakeArguments, best: Path, tmp_path: Path
):
    state = torch.load(best, weights_only=True)["model"]
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "wrapped.pt")
    for name, checkpoint in (("one", best), ("other", tmp_path / "wrapped.pt")):
        assert evaluation.main(command(arguments, checkpoint, "--split", "val", "-o", str(tmp_path / name))) == 0
    assert rows(tmp_path / "one/predictions.csv") == rows(tmp_path / "other/predictions.csv")


@pytest.mark.parametrize("fusion", PUBLISHED)
def test_a_checkpoint_of_the_published_code_is_read(fusion: str, arguments: MakeArguments, tmp_path: Path):
    options = [f"model.fusion={fusion}", *(["model.hidden_size=128"] if fusion == "mult" else [])]
    config = load_config(runs.CONFIG, arguments(*options)[2:])
    model = build_model(**config.model.model_dump()).eval()
    state = {name: value for name, value in model.state_dict().items() if name not in model.unpublished}
    torch.save({"model": state}, tmp_path / "published.pt")
    checkpoint = ["--checkpoint", str(tmp_path / "published.pt"), "--split", "test", "--quiet"]
    assert evaluation.main([*arguments(*options), *checkpoint, "-o", str(tmp_path)]) == 0
    with ClipLoader(config.data.shards / "test", 3, 8, 32, train=False) as loader:
        batch = next(iter(loader))
    scores = model(batch.rgb, batch.flow).logits.softmax(dim=1).tolist()
    for row, expected in zip(rows(tmp_path / "predictions.csv"), scores, strict=True):
        assert [float(row[f"score_{label}"]) for label in range(6)] == pytest.approx(expected, abs=1e-5)


def test_finished_runs_are_compared_and_each_can_still_be_scored(arguments: MakeArguments, tmp_path: Path, capsys):
    light = arguments("model.fusion=rgb", "train.epochs=1", "name=rgb")
    assert train.main([*light, "seeds=[0,1]", "--quiet"]) == 0
    folders = [str(tmp_path / "runs" / f"rgb-seed{seed}") for seed in (0, 1)]
    assert evaluation.main(["--compare", *folders]) == 0
    printed = capsys.readouterr().out
    (row,) = rows(tmp_path / "runs" / "comparison.csv")
    assert (row["run"], row["method"], row["split"], row["seeds"]) == ("rgb", "rgb", "test", "0 1")
    accuracies = []
    for folder in folders:
        trained = rows(Path(folder, "test/predictions.csv"))
        assert evaluation.main([folder, "-o", f"{folder}/again", "loader.batch_size=4", "--quiet"]) == 0
        assert rows(Path(folder, "again/predictions.csv")) == trained
        accuracies.append(json.loads(Path(folder, "again/metrics.json").read_text())["top1"])
    mean = sum(accuracies) / 2
    assert float(row["accuracy_mean"]) == pytest.approx(mean)
    assert f"{100 * mean:.1f} ± " in printed
    assert f"written to {tmp_path / 'runs'}/comparison.md, .csv, .png" in printed
    parameters = sum(
        p.numel() for p in build_model(**load_config(f"{folders[0]}/config.yaml").model.model_dump()).parameters()
    )
    assert row["parameters"] == row["trainable_parameters"] == str(parameters)


def test_faults_of_a_stream_are_scored_beside_the_clips_as_they_are(
    arguments: MakeArguments, config: MakeConfig, tmp_path: Path, capsys
):
    torch.manual_seed(0)
    model = build_model(**config("model.fusion=late").model.model_dump())
    given = plain_config(config("model.fusion=late"))
    save_checkpoint(tmp_path / "best.pt", {"model": model.state_dict(), "config": given})
    faults = ["--corrupt", "rgb:missing", "flow:delay=1,4", "rgb:dark=0.5"]
    scoring = [*arguments("model.fusion=late"), "--checkpoint", str(tmp_path / "best.pt"), "--split", "val", *faults]
    assert evaluation.main(scoring) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("as it is", "rgb:missing", "flow:delay=1", "flow:delay=4", "rgb:dark=0.5"))
    folder = tmp_path / "val-corrupt"
    assert {path.name for path in folder.iterdir()} == {"corruption.json", "corruption.png"}
    content = json.loads((folder / "corruption.json").read_text())
    assert (content["checkpoint"], content["split"], content["clips"]) == ("best.pt", "val", 6)
    assert [score["kind"] for score in content["scores"]] == [None, "missing", "delay", "delay", "dark"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["-c", "configs/rgb.yaml"], "what to score: allowed: either RUN or --checkpoint PT"),
        (["runs/a", "--checkpoint", "runs/a/last.pt"], "what to score: allowed: either RUN or --checkpoint PT"),
        (["runs/a", "--sls-td", "3"], "--sls-pt, --sls-tl, --sls-td: allowed with --export epic"),
        (["runs/a", "--corrupt", "rgb:missing", "--export", "epic"], "--export: allowed without --corrupt"),
        (["--compare", "runs/a", "-c", "configs/rgb.yaml"], "unrecognized arguments: -c"),
        (["-o", "out", "runs/a", "--compare", "--views", "2"], "unrecognized arguments: --views"),
    ],
)
def test_one_of_the_uses_has_to_be_chosen(command: list[str], message: str, capsys):
    with pytest.raises(SystemExit) as exited:
        evaluation.main(command)
    assert exited.value.code == 2
    assert message in capsys.readouterr().err


def test_nothing_to_compare_is_one_message(tmp_path: Path, capsys):
    assert evaluation.main(["--compare", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: --compare: no finished run")


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--split", "night"], 2, "data.annotations: names no night split; named: train, val, test"),
        (["--checkpoint", "/nowhere/best.pt"], 1, "/nowhere/best.pt: cannot read the checkpoint"),
        (["data.shards=/nowhere"], 1, "pack.py"),
    ],
)
def test_mistakes_end_with_one_message(
    more: list[str], code: int, message: str, arguments: MakeArguments, best: Path, capsys
):
    assert evaluation.main(command(arguments, best, *more)) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_a_run_without_its_files_is_one_message(best: Path, capsys):
    assert evaluation.main([str(best)]) == 2
    assert f"{best.parent}/config.yaml: missing, which train.py writes beside best.pt" in capsys.readouterr().err
    best.unlink()
    assert evaluation.main([str(best.parent)]) == 1
    assert f"{best}: no such checkpoint; allowed: a folder that has best.pt" in capsys.readouterr().err


def test_scores_of_another_checkpoint_never_take_the_place_of_the_best_ones_in_silence(
    arguments: MakeArguments, best: Path, capsys
):
    assert evaluation.main(command(arguments, best, "--split", "test")) == 0
    before = (best.parent / "test" / "predictions.csv").read_bytes()
    last = best.parent / "last.pt"
    last.write_bytes(best.read_bytes())
    assert evaluation.main(command(arguments, last, "--split", "test")) == 0
    assert (best.parent / "test" / "predictions.csv").read_bytes() == before
    assert json.loads((best.parent / "test-last" / "metrics.json").read_text())["checkpoint"] == "last.pt"
    assert "are replaced" not in capsys.readouterr().out
    assert evaluation.main(command(arguments, last, "--split", "test", "-o", str(best.parent / "test"))) == 0
    assert f"note: the scores that were in {best.parent / 'test'}, of best.pt, are replaced" in capsys.readouterr().out
    (best.parent / "test" / "metrics.json").write_text("[")
    assert evaluation.main(command(arguments, best, "--split", "test")) == 0
    assert "of a damaged metrics.json, are replaced" in capsys.readouterr().out


def test_scoring_that_sees_a_small_part_of_the_frame_is_noted(arguments: MakeArguments, best: Path, capsys):
    scoring = command(arguments, best, "--split", "test")
    assert evaluation.main(scoring) == 0  # 32 x 32 of 96 x 64 is a sixth
    assert "test: scoring sees 17% of a frame, 32 x 32 of 96 x 64 pixels; pack smaller" in capsys.readouterr().out
    assert evaluation.main([*scoring, "--crops", "3"]) == 0  # 96 x 32
    assert evaluation.main([*scoring, "clip.scale=[0.9,1.0]"]) == 0
    assert evaluation.main([*scoring, "clip.crop_size=48"]) == 0
    assert "scoring sees" not in capsys.readouterr().out


def test_shards_that_number_the_classes_otherwise_are_matched_by_name(
    arguments: MakeArguments, best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    scoring = command(arguments, best, "--split", "test")
    assert evaluation.main(scoring) == 0
    before = rows(best.parent / "test" / "predictions.csv")
    state = torch.load(best, weights_only=True)
    data = {"classes": {"label": ["wash", "cut", "pour", "open"]}, "source": None}
    save_checkpoint(best, state | {"data": data})
    assert evaluation.main(scoring) == 0  # shards without names: numbers as they are
    assert [row["label"] for row in rows(best.parent / "test" / "predictions.csv")] == ["0", "1", "2"]
    named = [f"data.shards={tmp_path / 'named'}"]
    monkeypatch.setattr(pack, "_name_classes", lambda *_: {"label": ("cut", "open", "pour")})
    assert pack.main(arguments(*named)) == 0
    assert evaluation.main([*scoring, *named]) == 0
    assert "numbers 2 of its classes otherwise; matched by their names" in capsys.readouterr().out
    after = rows(best.parent / "test" / "predictions.csv")
    assert [(row["label"], row["label_name"]) for row in after] == [("1", "cut"), ("3", "open"), ("2", "pour")]
    assert [row["prediction"] for row in after] == [row["prediction"] for row in before]
    names = ["wash", "cut", "pour", "open", "4", "5"]
    assert [row["name"] for row in rows(best.parent / "test" / "per_class.csv")] == names
    save_checkpoint(best, state | {"data": {"classes": {"label": ["cut", "pour"]}, "source": None}})
    assert evaluation.main([*scoring, *named]) == 1
    assert (
        "test: clips of open, which training did not have; its classes of label are cut, pour"
        in capsys.readouterr().err
    )


@pytest.fixture
def unlabelled(data: list[str], tmp_path: Path) -> list[str]:
    """The overrides of the data with the test clips packed anew from annotations that do not say what they show."""
    frames = next(entry for entry in data if entry.startswith("data.frames="))
    before = load_config(runs.CONFIG, data).data.annotations
    files = {split: [str(path) for path in paths] for split, paths in before.splits().items()}
    table = rows(Path(files["test"][0]))
    with open(tmp_path / "test.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in table[0] if not name.startswith("verb")], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    files["test"] = [str(tmp_path / "test.csv")]
    given = [frames, f"data.annotations={json.dumps(files)}", f"data.shards={tmp_path / 'shards'}"]
    own = [entry for entry in data if not entry.startswith(("data.frames=", "data.annotations=", "data.shards="))]
    assert pack.main(["-c", str(runs.CONFIG), "--quiet", *own, *given]) == 0
    return given


def test_clips_without_labels_are_scored_into_predictions_alone(
    arguments: MakeArguments, best: Path, unlabelled: list[str], capsys: pytest.CaptureFixture[str]
):
    assert evaluation.main(command(arguments, best, *unlabelled)) == 0
    folder = best.parent / "test"
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "predictions.csv", "report.html"}
    assert {row["label"] for row in rows(folder / "predictions.csv")} == {"-1"}
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [metrics[key] for key in ("loss", "top1", "top5", "mean_class", "clips")] == [None, None, None, None, 3]
    assert "test: no clip has a label: predictions.csv alone" in capsys.readouterr().out
    # The scores are those of the same clips with labels.
    assert evaluation.main(command(arguments, best, "-o", str(best.parent / "labelled"), "--quiet")) == 0
    scores = [
        [float(row[f"score_{label}"]) for row in rows(best.parent / name / "predictions.csv") for label in range(6)]
        for name in ("test", "labelled")
    ]
    assert scores[0] == scores[1]


def test_a_training_may_end_in_predictions_for_clips_without_labels(
    arguments: MakeArguments, unlabelled: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert train.main([*arguments("model.fusion=rgb", "train.epochs=1"), *unlabelled]) == 0
    assert "test clips have no labels: predictions alone" in capsys.readouterr().out
    run = tmp_path / "runs" / "xnorm"
    assert json.loads((run / "summary.json").read_text())["test"] is None
    assert len(rows(run / "test" / "predictions.csv")) == 3


def test_clips_without_labels_cannot_be_trained_on(
    arguments: MakeArguments, unlabelled: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "shards/val").rename(tmp_path / "shards/kept")
    index = json.loads((tmp_path / "shards/test/index.json").read_text())
    index["split"] = "val"
    index["checksum"] = index_checksum(index)
    (tmp_path / "shards/test").rename(tmp_path / "shards/val")
    (tmp_path / "shards/val/index.json").write_text(json.dumps(index))
    (tmp_path / "shards/kept").rename(tmp_path / "shards/test")
    annotations = next(entry for entry in unlabelled if "annotations" in entry).replace('"test"', '"unused"')
    given = [entry for entry in unlabelled if "annotations" not in entry]
    files = json.loads(annotations.partition("=")[2])
    files.pop("unused")
    more = [*given, f"data.annotations={json.dumps(files)}"]
    assert train.main([*arguments("model.fusion=rgb"), *more]) == 1
    assert "3 of 3 clips have no label, which training and validation need" in capsys.readouterr().err
