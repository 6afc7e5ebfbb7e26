"""The picture of a run's curves shows what the log has, where it belongs, and nothing that it has not."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from engine.runs.curves import Panel, draw_history, draw_panel, gather, panels

LOGGED = {"lr": 0.1, "loss": 2.0, "loss/cls": 2.0, "accuracy": 0.5, "grad_norm": 1.0, "clips_per_s": 9.0}
TRAIN = {"kind": "train", "epoch": 1, "step": 4, **LOGGED, "data_wait": 0.1, "peak_memory_mib": 512.0}
EPOCH = {**TRAIN, "kind": "epoch", "step": 8}
VAL = {"kind": "val", "epoch": 1, "step": 8, "loss": 1.5, "top1": 0.6, "top5": None, "mean_class": 0.5}
TEST = {**VAL, "kind": "test", "epoch": 1, "step": 16, "top1": 0.7}
SECOND = [{**TRAIN, "epoch": 2, "step": 12, "lr": 0.01}, {**EPOCH, "epoch": 2, "step": 16, "lr": 0.01}]


def titles(*records: dict[str, Any]) -> list[str]:
    return [panel.title for panel in panels(gather(records))]


def drawn(title: str, *records: dict[str, Any], chance: float | None = None) -> Any:
    """matplotlib's axes of one panel."""
    points = gather(records)
    (panel,) = (panel for panel in panels(points, chance) if panel.title == title)
    assert isinstance(panel, Panel)
    axes = Figure().subplots()
    draw_panel(axes, panel, points)
    return axes


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_numbers_are_gathered_by_kind_and_key_over_epochs_and_nulls_are_left_out() -> None:
    points = gather([TRAIN, VAL, {**TRAIN, "step": 8, "loss": 1.0, "grad_norm": None}, EPOCH])
    assert points["train", "loss"] == [(0.5, 2.0), (1.0, 1.0)]
    assert ("val", "top5") not in points


def test_an_epoch_under_way_is_as_long_as_the_first() -> None:
    assert gather([TRAIN, EPOCH, SECOND[0]])["train", "lr"] == [(0.5, 0.1), (1.5, 0.01)]
    assert gather([TRAIN])["train", "lr"] == [(1.0, 0.1)]


def test_the_tests_mark_stands_at_the_epoch_whose_weights_were_tested() -> None:
    axes = drawn("accuracy, %", TRAIN, EPOCH, VAL, *SECOND, TEST, chance=0.25)
    shown = lines(axes)
    assert shown["test, of the best epoch"] == ([1.0], [pytest.approx(70)])
    assert shown["validation"] == ([1.0], [pytest.approx(60)])
    assert shown["training"][0] == [1.0, 2.0]
    assert shown["always the commonest class, 25"][1] == [25, 25]
    assert axes.get_ylim()[0] == 0


def test_the_learning_rate_is_drawn_as_steps_that_change_where_it_changed() -> None:
    (line,) = drawn("learning rate", TRAIN, EPOCH, *SECOND).lines
    assert line.get_drawstyle() == "steps-pre"
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0, 0.5, 1, 1.5, 2], [0.1, 0.1, 0.1, 0.01, 0.01])


def test_terms_have_a_panel_where_there_are_several_and_weights_where_there_are_any() -> None:
    assert "terms of the training loss" not in titles(TRAIN, EPOCH)
    assert "terms of the training loss" in titles(TRAIN, {**EPOCH, "loss/diff": 0.5})
    assert "weights of the heads" not in titles(TRAIN, EPOCH)
    assert "weights of the heads" in titles(TRAIN, EPOCH, {"kind": "prepare", "epoch": 1, "step": 0, "rgb_w": 0.4})


def test_a_run_that_logged_anything_has_a_picture(tmp_path: Path) -> None:
    for name, records in (("whole", [TRAIN, EPOCH, VAL, TEST]), ("short", [EPOCH])):
        log = tmp_path / f"{name}.jsonl"
        log.write_text("".join(json.dumps(record) + "\n" for record in records))
        draw_history(log, tmp_path / f"{name}.png", 0.25)
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > picture.height > 300
