"""The profile's picture has stages that add up to the loader's bar, or none."""

from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.profile.report import drawn_stages, plot_profile, rivals_of, spread_of_runs, verdict
from pipeline.profile.stages import stage_costs

CUT_OFF = {"floor": 9.0, "reading": 1.0, "decoding": 10.0, "copy-out": 11.0, "loader": 12.0, "OpenCV": 80.0}


def report(**changed: float) -> dict[str, Any]:
    cpu_ms = CUT_OFF | changed
    figures = {
        name: {"cpu_ms_per_clip": ms, "cpu_ms_per_clip_min": 0.9 * ms, "cpu_ms_per_clip_max": 1.1 * ms}
        for name, ms in cpu_ms.items()
    }
    machine = {"cpu": "a CPU", "dali": "1.34.0"}
    return {
        "machine": machine,
        "load_average": [5.0, 4.0],
        "candidates": figures,
        "stages_cpu_ms_per_clip": stage_costs(cpu_ms),
        "loader_over_floor": cpu_ms["loader"] / cpu_ms["floor"],
        "rounds": 3,
        "noise": 0.1,
    }


def test_the_stages_add_up_to_the_loader_or_are_not_drawn() -> None:
    assert drawn_stages(report()) == {"reading": 1, "decode": 9, "copy-out": 1, "augment": 1}
    assert sum(drawn_stages(report()).values()) == CUT_OFF["loader"]
    assert drawn_stages(report(loader=10.9)) == {}  # less than without augmentation: noise


def test_a_share_of_the_floor_is_given_only_where_the_rounds_agree() -> None:
    assert verdict(report()) == "133% of the floor's CPU time; rounds differ by 10%"
    noisy = verdict(report() | {"noise": 0.6})
    assert "too noisy to say how far it is from the floor: rounds of the same work differ by 60%" in noisy
    assert "load average 4.0 to 5.0" in noisy
    assert "133%" not in noisy
    assert "too noisy" in verdict(report(loader=6.0))  # cheaper than decoding alone, which it contains
    assert "one round does not say" in verdict(report() | {"rounds": 1})


def test_rivals_stand_in_the_order_of_their_cost_and_stages_not_among_them() -> None:
    assert list(rivals_of(report(quick=8.0))) == ["quick", "loader", "OpenCV"]


def test_several_runs_show_each_median_and_the_range_of_all() -> None:
    figures = [{"ms": 2.0, "ms_min": 1.0, "ms_max": 3.0}, {"ms": 4.0, "ms_min": 2.0, "ms_max": 5.0}]
    assert spread_of_runs(figures, "ms", ".0f") == "2, 4 (1 to 5)"


def test_the_picture_is_drawn_either_way(tmp_path: Path) -> None:
    for number, measured in enumerate((report(), report(loader=10.9))):
        plot_profile(measured, tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png") as picture:
            assert picture.width > 600
