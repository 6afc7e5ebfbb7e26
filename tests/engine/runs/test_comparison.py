"""Runs side by side: what is one row, what is not comparable, and the arithmetic."""

import copy
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from common.display import Display
from configs import UserError
from engine.runs.checkpoint import plain_config
from engine.runs.comparison.report import show_comparison
from engine.runs.comparison.rows import compare
from engine.runs.records import read_config
from engine.runs.trials import configs_in, count_trials
from tests.runs import MakeConfig

NUM_CLIPS = 20
MakeRun = Callable[..., Path]
SUMMARY = {
    "val": {"top1": 0.9, "mean_class": 0.8},
    "test": {"top1": 0.5, "mean_class": 0.25},
    "parameters": {"total": 3_000_000, "trainable": 2_000_000},
    "gflops_per_clip": 12.5,
    "clips_per_s": 10.0,
    "data_wait": 0.01,
    "peak_memory_bytes": 2**30,
    "wall_seconds": 90.0,
    "splits": {"train": 1, "val": 2, "test": 3},
    "device": "CPU",
    "precision": "fp32",
    "processes": 1,
}


def write_predictions(folder: Path, hits: Sequence[bool]) -> None:
    """Write what a scoring of two classes leaves, where `hits` says which clips were right."""
    folder.mkdir()
    write = [
        f"clip{number:02d},0,{int(not hit)},{0.75 if hit else 0.25},{0.25 if hit else 0.75}"
        for number, hit in enumerate(hits)
    ]
    (folder / "predictions.csv").write_text("\n".join(["clip_id,label,prediction,score_0,score_1", *write, ""]))
    (folder / "metrics.json").write_text(json.dumps({"classes": None}))


@pytest.fixture
def run(config: MakeConfig, tmp_path: Path) -> MakeRun:
    """Write a finished run's folder: run("name", "key=value", test={"top1": 0.7}) returns it."""

    def make(name: str, *overrides: str, hits: Sequence[bool] | None = None, **changes: Any) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        settings = config(f"name={name}", *overrides)
        (folder / "config.yaml").write_text(yaml.safe_dump(plain_config(settings)))
        summary = copy.deepcopy(SUMMARY) | {"epochs": settings.train.epochs, "best_epoch": settings.train.epochs}
        for key, value in changes.items():
            summary[key] = {**summary[key], **value} if isinstance(value, dict) else value
        if hits is None:
            hits = np.arange(NUM_CLIPS) < NUM_CLIPS * summary["test"]["top1"] - 1e-9
        summary["test"]["top1"] = float(np.mean(hits))
        write_predictions(folder / "test", hits)
        (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return make


def rows(folders: list[Path], tmp_path: Path) -> list[dict[str, str]]:
    show_comparison(compare(folders), tmp_path / "out", Display(quiet=True))
    with open(tmp_path / "out" / "comparison.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_seeds_of_one_config_are_one_row_with_mean_and_sample_std(run: MakeRun, tmp_path: Path):
    folders = [
        run("x-seed2", "seed=2", test={"top1": 0.9, "mean_class": 0.3}, clips_per_s=30.0, peak_memory_bytes=2**31),
        run("x-seed0", "seed=0", test={"top1": 0.7, "mean_class": 0.1}),
        run("x-seed1", "seed=1", test={"top1": 0.8, "mean_class": 0.2}),
    ]
    (row,) = rows(folders, tmp_path)
    assert (row["run"], row["method"], row["split"], row["seeds"]) == ("x", "xnorm", "test", "0 1 2")
    assert float(row["accuracy_mean"]) == pytest.approx(0.8)
    assert float(row["accuracy_std"]) == pytest.approx(0.1)  # sqrt((0.01 + 0 + 0.01) / 2)
    assert float(row["mean_class_mean"]) == pytest.approx(0.2)
    assert float(row["mean_class_std"]) == pytest.approx(0.1)
    assert float(row["clips_per_s"]) == pytest.approx(50 / 3)
    assert int(row["peak_memory_bytes"]) == 2**31
    assert (row["parameters"], row["trainable_parameters"], row["gflops_per_clip"]) == ("3000000", "2000000", "12.5")


def test_one_seed_has_no_standard_deviation(run: MakeRun, tmp_path: Path):
    (row,) = rows([run("x")], tmp_path)
    assert (row["accuracy_mean"], row["accuracy_std"]) == ("0.5", "")
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| x | xnorm | test | 20 | 0 | 1 | 50.0% | 30.0 to 70.0 | 25.0% |" in text  # 50 ± 1.96 sqrt(25 / 20)
    assert "| x | xnorm | 3.00 M | 2.00 M | 12.50 | 10.0 | 1.0% | 1.00 GiB |" in text
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_has_the_rows_and_escapes_them(run: MakeRun, tmp_path: Path):
    rows([run("a"), run("b", "model.fusion=late", "train.epochs=3")], tmp_path)
    page = (tmp_path / "out" / "comparison.html").read_text("utf-8")
    assert page.count("<svg") == 1
    for text in ("50.0%", "setting B cannot be compared", "GFLOPs/clip"):
        assert text in page
    hidden = replace(compare([tmp_path / "runs" / "a"]), notes=["<script>alert(1)</script>"])
    show_comparison(hidden, tmp_path / "out", Display(quiet=True))
    page = (tmp_path / "out" / "comparison.html").read_text("utf-8")
    assert page.count("<script>") == 1  # its own
    assert "&lt;script&gt;alert(1)" in page


def test_without_a_test_split_it_is_validation_and_says_so(run: MakeRun, tmp_path: Path):
    folder = run("x")
    summary = json.loads((folder / "summary.json").read_text()) | {"test": None}
    (folder / "summary.json").write_text(json.dumps(summary))
    (row,) = rows([folder], tmp_path)
    assert (row["split"], row["accuracy_mean"], row["mean_class_mean"]) == ("val", "0.9", "0.8")


def test_a_run_that_goes_on_for_more_epochs_is_not_finished(run: MakeRun):
    folders = [
        run("a"),
        run("b", "train.epochs=9", epochs=2),
        run("c", "train.epochs=9", "seed=1", epochs=8, best_epoch=0),
    ]
    comparison = compare(folders)
    assert comparison.notes[-1] == f"not finished, left out: {folders[1]}"
    assert [row.name for row in comparison.rows] == ["a", "c"]  # c was stopped early, with patience for eight


def test_methods_and_options_are_rows_of_one_setting(run: MakeRun, tmp_path: Path):
    folders = [run("a"), run("b", "model.param_pool=global"), run("c", "model.fusion=late"), run("d", "runs=elsewhere")]
    run("e", "data.preset=none", "seed=3")  # of one trial with a, whatever its seed
    with pytest.raises(UserError, match=r"runs/a and .*runs/d: both are seed 0 of the same config"):
        compare(folders)
    comparison = compare(folders[:3])
    assert [row.name for row in comparison.rows] == ["c", "a", "b"]  # in the order of the methods
    assert [row.trials for row in comparison.rows] == [1, 2, 2]
    assert comparison.notes == []


@pytest.mark.parametrize(
    ("override", "change", "note"),
    [
        ("clip.num_frames=16", {}, "clip.num_frames is 16, in A 8"),
        ("train.epochs=9", {}, "train.epochs is 9, in A 2"),
        ("loader.batch_size=2", {}, "loader.batch_size is 2, in A 4"),
        ("seed=0", {"splits": {"test": 4}}, "splits.test is 4, in A 3"),
        ("seed=0", {"device": "H100"}, "device is H100, in A CPU"),
    ],
)
def test_other_data_clips_budget_or_device_are_not_mixed_silently(
    override: str, change: dict[str, Any], note: str, run: MakeRun, tmp_path: Path
):
    comparison = compare([run("a"), run("b", override, **change), run("c", "model.fusion=late")])
    assert [(row.name, row.setting) for row in comparison.rows] == [("c", "A"), ("a", "A"), ("b", "B")]
    assert comparison.notes == [f"rows of setting B cannot be compared with those of A: {note}"]
    show_comparison(comparison, tmp_path, Display(quiet=True))
    assert f"**{comparison.notes[0]}**" in (tmp_path / "comparison.md").read_text()


def test_what_an_older_version_did_not_have_is_as_it_is_by_default(run: MakeRun):
    folders = [run("a-seed0", "seed=0"), run("a-seed1", "seed=1"), run("b", "train.clip_norm=2", "seed=2")]
    for folder in folders[1:]:
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        del settings["clip"]["color"], settings["model"]["trunk"]
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    comparison = compare(folders)
    assert [(row.seeds, row.setting, row.trials) for row in comparison.rows] == [([0, 1], "A", 2), ([2], "B", 2)]
    assert comparison.notes == [
        "rows of setting B cannot be compared with those of A: train.clip_norm is 2.0, in A 1.0"
    ]


def test_where_things_lie_is_no_setting(run: MakeRun):
    moved = ("data.shards=/elsewhere", "data.frames=/elsewhere", "loader.num_threads=9", "train.log_every=1", "seed=1")
    (row,) = compare([run("a"), run("b", *moved)]).rows
    assert (row.seeds, row.name) == ([0, 1], "a, b")


def test_what_is_not_finished_is_left_out_and_named(run: MakeRun, tmp_path: Path):
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    comparison = compare([run("a"), tmp_path / "runs" / "empty"])
    assert len(comparison.rows) == 1
    assert comparison.notes == [f"not finished, left out: {tmp_path / 'runs' / 'empty'}"]
    with pytest.raises(UserError, match=r"no finished run \(with a summary.json\) among .*runs/empty"):
        compare([tmp_path / "runs" / "empty"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "{"),
        ("summary.json", "[" * 100_000),
        ("summary.json", "[]"),
        ("summary.json", '{"val": {"top1": "high"}}'),
        ("config.yaml", "a: &a [x, x]\nb: &b [*a, *a]\n"),
        ("config.yaml", "name: x\nseed: 0\nmodel: {fusion: rgb, 1: 2}\ntrain: {}\n"),
        ("config.yaml", "- " * 5000),
        ("config.yaml", "name: [x"),
        ("config.yaml", "name: x\nseed: 2001-99-99\n"),
        ("config.yaml", "\0\0\0\0"),
        ("config.yaml", ""),
        ("config.yaml", None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_any_damage_is_one_message(name: str, content: str | None, run: MakeRun):
    folder = run("x")
    (folder / name).unlink()
    if content is None:
        (folder / name).mkdir()
    else:
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=rf"^{folder / name}: damaged[^\n]*$"):
        compare([run("y", "seed=1"), folder])


def test_a_summary_of_an_older_version_is_named(run: MakeRun):
    older = {key: value for key, value in SUMMARY.items() if key != "gflops_per_clip"} | {"epochs": 2, "best_epoch": 2}
    folder = run("older")
    (folder / "summary.json").write_text(json.dumps(older))
    with pytest.raises(UserError, match=r"older/summary.json: damaged, or .* \(gflops_per_clip: Field required\)"):
        compare([folder])


def test_aliases_of_aliases_do_not_unfold(run: MakeRun):
    folder = run("x")
    levels = "".join(f"a{n}: &a{n} {{one: *a{n - 1}, other: *a{n - 1}}}\n" for n in range(1, 40))
    rest = "name: x\nseed: 0\ntrain: {}\nmodel: {fusion: rgb}\n"
    (folder / "config.yaml").write_text(f"a0: &a0 {{one: 1}}\n{levels}{rest}")
    with pytest.raises(UserError, match=r"config\.yaml: damaged \(its aliases stand for more than 100,000 values"):
        compare([folder])


def hits(*numbers: int) -> list[bool]:
    """Of 20 clips those of these numbers are right."""
    return [number in numbers for number in range(NUM_CLIPS)]


def test_a_method_is_held_to_late_the_ensemble_and_the_best_single_stream(run: MakeRun, tmp_path: Path):
    folders = [
        run("rgb", "model.fusion=rgb", hits=hits(*range(8)), val={"top1": 0.3}),
        run("flow", "model.fusion=flow", hits=hits(*range(4, 16)), val={"top1": 0.2}),  # better, but in test alone
        run("late", "model.fusion=late", hits=hits(*range(10))),
        run("xnorm", hits=hits(*range(20))),
    ]
    rgb, flow, ensemble, late, xnorm = compare(folders).rows
    assert (ensemble.name, ensemble.fusion) == ("rgb + flow", "ensemble")
    assert ensemble.accuracies() == [0.8]  # clips 0 to 15: where they disagree, the first class, which is the label
    assert {kind: found.other for kind, found in xnorm.differences.items()} == {
        "late": "late",
        "ensemble": "rgb + flow",
        "best stream": "rgb",
    }
    assert [found.mean for found in xnorm.differences.values()] == pytest.approx([0.5, 0.2, 0.6])
    assert set(late.differences) == {"ensemble", "best stream"}
    assert set(rgb.differences) == {"late", "ensemble"}
    to_late = xnorm.differences["late"]
    half = 1.96 * np.sqrt(0.5 * 0.5 / NUM_CLIPS)  # ten clips won, none lost
    assert to_late.interval == pytest.approx((0.5 - half, 0.5 + half), abs=0.04)
    assert to_late.told_apart
    assert not flow.differences["late"].told_apart  # six won and four lost
    show_comparison(compare(folders), tmp_path / "out", Display(quiet=True))
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| points of accuracy more than late | points of accuracy more than ensemble |" in text
    assert "+10.0 [-20.0, +40.0] not told apart" in text
    assert "+50.0 [+30.0, +70.0] |" in text


def test_the_ensemble_costs_what_its_runs_cost_together(run: MakeRun):
    cost = {"clips_per_s": 30.0, "data_wait": 0.3, "peak_memory_bytes": 2**31, "gflops_per_clip": 1.5}
    _, _, ensemble = compare([run("rgb", "model.fusion=rgb"), run("flow", "model.fusion=flow", **cost)]).rows
    (summary,) = (run.summary for run in ensemble.runs)
    assert (summary.parameters.total, summary.gflops_per_clip) == (6_000_000, 14.0)
    assert summary.clips_per_s == pytest.approx(7.5)  # 1 / (1/10 + 1/30)
    assert summary.data_wait == pytest.approx(0.0825)  # (0.01/10 + 0.3/30) * 7.5
    assert summary.peak_memory_bytes == 2**31


def test_seeds_are_paired_and_those_of_one_alone_left_out(run: MakeRun):
    late = [run(f"late-seed{seed}", "model.fusion=late", f"seed={seed}", hits=hits(*range(seed))) for seed in (0, 1, 2)]
    xnorm = [run(f"xnorm-seed{seed}", f"seed={seed}", hits=hits(*range(2 * seed))) for seed in (1, 2, 5)]
    assert compare([*late, *xnorm]).rows[1].differences["late"].mean == pytest.approx((1 + 2) / 2 / NUM_CLIPS)
    assert compare([late[0], xnorm[2]]).rows[1].differences == {}


def test_what_cannot_be_compared_has_axes_of_its_own(run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **keys: (figures.append(self), save(self, *args, **keys))
    )
    folders = [
        run("a"),
        run("b", "clip.num_frames=16"),
        run("c", "model.fusion=late"),
        run("d", "clip.synchronized=false"),
    ]
    comparison = compare(folders)
    show_comparison(comparison, tmp_path, Display(quiet=True))
    figure = figures[0]  # the page draws the same once more
    named = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes]
    assert named == [["c", "a", "d"], ["b"]]  # an ablation of training stays beside what it is one of
    assert [axes.get_title() for axes in figure.axes] == [
        f"setting {letter}: accuracy on test, with its 95 % interval" for letter in "AB"
    ]
    assert [text.get_text() for text in figure.axes[1].texts] == ["50.0%  n = 20 x 1"]
    (bars,) = figure.axes[1].collections  # of the interval
    assert bars.get_segments()[0][:, 0] == pytest.approx(comparison.rows[3].interval)


def test_predictions_that_are_not_there_or_of_another_scoring_give_no_interval(run: MakeRun):
    folders = [run("a"), run("b", "model.fusion=late"), run("c", "model.fusion=early")]
    (folders[0] / "test" / "predictions.csv").unlink()
    summary = json.loads((folders[1] / "summary.json").read_text())
    summary["test"]["top1"] = 0.55
    (folders[1] / "summary.json").write_text(json.dumps(summary))
    comparison = compare(folders)
    assert [row.interval is None for row in comparison.rows] == [False, True, True]
    (note,) = comparison.notes
    assert note.startswith("without intervals, as there are no predictions that give the accuracy in summary.json")
    assert note.endswith(f"{folders[0]}, {folders[1]}")


def test_runs_of_several_targets_are_told_that_they_have_no_intervals(run: MakeRun):
    folder = run("a")
    (folder / "test" / "metrics.json").write_text(json.dumps({"classes": None, "targets": ["verb", "noun"]}))
    (folder / "test" / "predictions.csv").unlink()
    comparison = compare([folder])
    assert comparison.rows[0].interval is None
    reason = "runs of several targets are compared by their accuracies alone"
    assert comparison.notes == [f"without intervals, as {reason}: {folder}"]


def test_a_folder_of_runs_is_the_runs_in_it(run: MakeRun, tmp_path: Path):
    run("a"), run("b", "model.fusion=late")
    (tmp_path / "runs" / "rgb+flow" / "test").mkdir(parents=True)  # of an ensemble by eval.py --fuse
    assert [row.name for row in compare([tmp_path / "runs"]).rows] == ["b", "a"]


def test_trials_are_of_one_method_on_one_data_set_however_many_seeds(run: MakeRun):
    run("a", trials=3)  # it saw one more, which is removed
    run("b", "train.lr=1.0e-3", "seed=7")
    run("c", "train.lr=1.0e-3", "seed=8")
    run("d", "model.fusion=late")
    folder = run("e", "data.preset=epic-100")
    (folder.parent / "f").mkdir()
    (folder.parent / "f" / "config.yaml").write_text("[")  # damaged: no reason to end
    assert count_trials(read_config(folder.parent / "b"), configs_in(folder.parent)) == 2
    rows = compare([folder.parent / name for name in "abcde"]).rows
    assert {row.name: row.trials for row in rows} == {"d": 1, "a": 3, "b, c": 2, "e": 1}


def test_the_accuracy_under_a_fault_is_the_mean_over_seeds_that_all_have_it(run: MakeRun, tmp_path: Path):
    folders = [run("x-seed0", "seed=0"), run("x-seed1", "seed=1"), run("late", "model.fusion=late")]
    known = {"top1": 0.5, "low": 0.2, "high": 0.6, "mean_class": 0.5, "stream": "flow"}
    for folder, accuracy in zip(folders, (0.3, 0.5), strict=False):  # of late nothing is known
        faults = [known | {"kind": "missing", "severity": 1.0, "top1": accuracy}]
        faults += [known | {"kind": "delay", "severity": 4.0 + accuracy}]
        content = {"checkpoint": "best.pt", "split": "test", "clips": 20, "scores": faults}
        (folder / "test-corrupt").mkdir()
        (folder / "test-corrupt" / "corruption.json").write_text(json.dumps(content))
    late, x = compare(folders).rows
    assert (late.faults, x.faults) == ({}, {"flow:missing": pytest.approx(0.4)})
    assert [row["flow:missing"] for row in rows(folders, tmp_path)] == ["", "0.4"]
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| run | method | flow:missing |" in text
    assert "| x | xnorm | 40.0% |" in text
