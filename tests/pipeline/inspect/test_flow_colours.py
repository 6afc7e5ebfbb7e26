"""The colours of flow, their scale, and what that is in pixels."""

import numpy as np
import pytest

from pipeline.inspect.flow_colours import FlowColours, pixels_per_level


def test_colours_say_where_flow_goes_and_how_fast() -> None:
    u, v = np.array([[168, 250, 87, 127, 137], [127, 128, 127, 168, 127]], np.uint8)
    right, farther, left, down, slower = FlowColours(fastest=40.0).paint(u, v).astype(int)
    assert np.abs(right - farther).max() <= 2  # beyond the scale nothing changes
    for one, other in ((right, left), (right, down), (left, down)):
        assert np.abs(one - other).max() > 100
    assert slower.min() > right.min()  # paler


def test_both_roundings_of_no_motion_are_white() -> None:
    still = np.array([127, 128, 127, 128], np.uint8), np.array([127, 127, 128, 128], np.uint8)
    assert (FlowColours.of(np.stack(still)).paint(*still) == 255).all()


def test_the_scale_passes_over_the_fastest_hundredth_and_over_rest() -> None:
    flow = np.full((2, 100, 100), 128, np.uint8)
    assert FlowColours.of(flow).fastest == 1.0
    flow[0, :50] = 148
    flow[0, 0, :40] = 255
    assert FlowColours.of(flow).fastest == 20.5
    assert FlowColours.of(np.full((2, 1, 4), 128, np.uint8), flow).fastest == 20.5  # one scale for all


@pytest.mark.parametrize(
    ("source", "video_id", "pixels"),
    [
        ({"options": {"bound": 20.0, "dilation": 2}}, "mine", 20 / 2 / 127.5),
        ({"options": {"bound": 20.0, "dilation": 1}}, "P01_101", 20 / 127.5),  # what is on record goes before the id
        (None, "P01_01", 25 / 3 / 127.5),
        (None, "P01_101", 8 / 127.5),
        (None, "mine", None),
    ],
)
def test_a_level_is_as_many_pixels_as_the_flow_was_made_with(source, video_id: str, pixels: float | None) -> None:
    assert pixels_per_level(source, video_id) == (None if pixels is None else pytest.approx(pixels))


def test_the_scale_is_said_in_pixels_where_they_are_known() -> None:
    assert FlowColours(51.0).scale_text(20 / 127.5) == "8 pixels/frame"
    assert FlowColours(51.0).scale_text(None) == "51 of 127 levels"
