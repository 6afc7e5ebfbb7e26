"""The profile's picture has stages that add up to the loader's bar, or none."""

from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.profile.report import drawn_stages, plot_profile
from pipeline.profile.stages import stage_costs

CUT_OFF = {"floor": 9.0, "reading": 1.0, "decoding": 10.0, "copy-out": 11.0, "loader": 12.0, "OpenCV": 80.0}


def report(**changed: float) -> dict[str, Any]:
    cpu_ms = CUT_OFF | changed
    figures = {
        name: {"cpu_ms_per_clip": ms, "cpu_ms_per_clip_min": 0.9 * ms, "cpu_ms_per_clip_max": 1.1 * ms}
        for name, ms in cpu_ms.items()
    }
    machine = {"cpu": "a CPU", "dali": "1.34.0"}
    return {"machine": machine, "candidates": figures, "stages_cpu_ms_per_clip": stage_costs(cpu_ms)}


def test_the_stages_add_up_to_the_loader_or_are_not_drawn() -> None:
    assert drawn_stages(report()) == {"reading": 1, "decode": 9, "copy-out": 1, "augment": 1}
    assert sum(drawn_stages(report()).values()) == CUT_OFF["loader"]
    assert drawn_stages(report(loader=10.9)) == {}  # less than without augmentation: noise


def test_the_picture_is_drawn_either_way(tmp_path: Path) -> None:
    for number, measured in enumerate((report(), report(loader=10.9))):
        plot_profile(measured, tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png") as picture:
            assert picture.width > 600
