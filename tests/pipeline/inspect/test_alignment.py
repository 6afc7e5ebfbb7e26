"""The moments that both streams' frames stand for: numbers and times worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.format.split import open_split
from pipeline.inspect.alignment import FrameAlignment


def moments(
    rgb: list[int], flow: list[int], stride: int = 2, last_flow: int = 10_000, fps: float | None = 50.0
) -> FrameAlignment:
    return FrameAlignment(np.array(rgb), np.array(flow), stride, "the video's id", fps, last_flow)


@pytest.mark.parametrize(("stride", "flow"), [(1, [1, 2, 101]), (2, [1, 1, 51])])
def test_flow_of_the_same_moment_is_right(stride: int, flow: list[int]) -> None:
    found = moments([1, 2, 101], flow, stride)
    assert not found.misaligned.any()
    assert found.summary.startswith("both streams show the same times: one flow frame for ")


def test_times_are_those_at_which_the_frames_begin() -> None:
    seconds = moments([1, 101, 102], [1, 51, 51], stride=2).seconds
    assert seconds is not None
    np.testing.assert_allclose(seconds, [[0.0, 2.0, 2.02], [0.0, 2.0, 2.0]])


def test_times_on_record_go_before_the_rate(split: Path, tmp_path: Path) -> None:
    table = open_split(split).table
    participant, video = (column[0].decode() for column in (table.participant_id, table.video_id))
    record = tmp_path / participant / "extracted" / f"{video}.json"
    record.parent.mkdir(parents=True)
    times = [0.05 * number + 0.01 * (number % 2) for number in range(1000)]  # of a rate that varies
    record.write_text(json.dumps({"times": times}))
    found = FrameAlignment.of(table, 0, np.arange(4), tmp_path)
    assert found.seconds is not None
    np.testing.assert_allclose(found.seconds[0], [times[number - 1] for number in found.rgb])
    np.testing.assert_allclose(found.seconds[1], [times[(number - 1) * found.stride] for number in found.flow])
    record.write_text(json.dumps({"times": times[:1]}))  # another video's
    assert FrameAlignment.of(table, 0, np.arange(4), tmp_path).times is None
    assert FrameAlignment.of(table, 0, np.arange(4), tmp_path / "gone").times is None


def test_flow_read_at_the_wrong_stride_is_wrong_by_that_much_time() -> None:
    """The published fault: of a 2020 video, where each RGB frame has its own flow frame, half the number is read."""
    found = moments([1, 101, 201], [1, 51, 101], stride=1)
    assert found.misaligned.tolist() == [False, True, True]
    assert found.expected_flow.tolist() == [1, 101, 201]
    assert found.summary == (
        "WRONG: 2 of 3 flow frames are of another time than their RGB frames, up to 2.00 s away"  # 100 / 50
    )


def test_without_a_known_rate_the_distance_is_in_frames() -> None:
    assert moments([201], [101], stride=1, fps=None).summary.endswith("up to 100 RGB frames away")


def test_the_last_flow_frame_stands_for_the_few_behind_it() -> None:
    found = moments([199, 201, 203], [100, 100, 100], last_flow=100)
    assert found.clamped.tolist() == [False, True, True]
    assert not found.misaligned.any()


def test_a_last_flow_frame_from_long_before_is_wrong() -> None:
    """As where all of a video's flow was read at half the number: its last is no frame to fall back on."""
    assert moments([240], [120], stride=1, last_flow=120).misaligned.tolist() == [True]
