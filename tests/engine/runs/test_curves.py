"""The picture of a run's curves shows what the log has, and nothing that it has not."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from engine.runs.curves import draw_history, gather, panels

LOGGED = {"lr": 0.1, "loss": 2.0, "loss/cls": 2.0, "accuracy": 0.5, "grad_norm": 1.0, "clips_per_s": 9.0}
TRAIN = {"kind": "train", "epoch": 1, "step": 4, **LOGGED, "data_wait": 0.1, "peak_memory_mib": 512.0}
EPOCH = {**TRAIN, "kind": "epoch", "step": 8}
VAL = {"kind": "val", "epoch": 1, "step": 8, "loss": 1.5, "top1": 0.6, "top5": None, "mean_class": 0.5}


def titles(*records: dict[str, Any]) -> list[str]:
    return [panel.title for panel in panels(gather(records))]


def test_numbers_are_gathered_by_kind_and_key_and_nulls_are_left_out() -> None:
    points = gather([TRAIN, VAL, {**TRAIN, "step": 8, "loss": 1.0, "grad_norm": None}])
    assert points["train", "loss"] == [(4, 2.0), (8, 1.0)]
    assert points["train", "grad_norm"] == [(4, 1.0)]
    assert ("val", "top5") not in points


def test_terms_have_a_panel_where_there_are_several_and_weights_where_there_are_any() -> None:
    assert "terms of the training loss" not in titles(TRAIN, EPOCH)
    assert "terms of the training loss" in titles(TRAIN, {**EPOCH, "loss/diff": 0.5})
    assert "weights of the heads" not in titles(TRAIN, EPOCH)
    assert "weights of the heads" in titles(TRAIN, EPOCH, {"kind": "prepare", "step": 0, "rgb_w": 0.4})


def test_a_run_that_logged_anything_has_a_picture(tmp_path: Path) -> None:
    for name, records in (("whole", [TRAIN, EPOCH, VAL, {**VAL, "kind": "test"}]), ("short", [EPOCH])):
        log = tmp_path / f"{name}.jsonl"
        log.write_text("".join(json.dumps(record) + "\n" for record in records))
        draw_history(log, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > picture.height > 300
