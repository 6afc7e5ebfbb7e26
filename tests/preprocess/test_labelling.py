"""Frame numbers, class numbers and splits of one's own clips."""

from itertools import pairwise
from pathlib import Path

import pytest

from preprocess.labelling import SegmentError, draw_splits, frame_span, label, number_labels
from preprocess.segments import Segment, Table

TIMES = [0.0, 0.04, 0.08, 0.12, 0.16]  # the fifth frame is shown until 0.2


def segment(start: float | None, stop: float | None, name: str = "x", file: str = "a.mp4") -> Segment:
    return Segment(2, file, start, stop, name, "", "own")


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 0.08, (1, 2)),
        (0.08, 0.2, (3, 5)),
        (None, None, (1, 5)),
        (0.05, 0.07, (2, 2)),  # between two frames: the one that is shown
        (0.12, 0.6, (4, 5)),  # durations are rounded
    ],
)
def test_seconds_take_the_frames_that_appear_from_start_to_before_stop(
    start: float | None, stop: float | None, expected: tuple[int, int]
) -> None:
    assert frame_span(segment(start, stop), "seconds", TIMES) == expected


def test_segments_that_follow_one_another_share_no_frame() -> None:
    times = [n * 1001 / 30000 for n in range(90)]
    cuts = [0, 0.5, 1.1, 1.73, 2.9]
    spans = [frame_span(segment(*pair), "seconds", times) for pair in pairwise(cuts)]
    assert all(before[1] + 1 == after[0] for before, after in pairwise(spans))


def test_seconds_follow_a_rate_that_varies() -> None:
    assert frame_span(segment(0.5, 1.0), "seconds", [0.0, 0.1, 0.6, 0.9, 1.0]) == (3, 4)


def test_frames_are_taken_as_they_are() -> None:
    assert frame_span(segment(2, 4), "frames", TIMES) == (2, 4)
    assert frame_span(segment(None, None), "frames", TIMES) == (1, 5)


@pytest.mark.parametrize(
    ("start", "stop", "unit", "message"),
    [
        (0.2, None, "seconds", r"start: found 0\.2 s; the video ends at 0\.20 s"),
        (0.1, 0.8, "seconds", r"stop: found 0\.8 s; the video ends at 0\.20 s"),
        (2, 6, "frames", r"stop_frame: found 6; the video has 5 frames"),
        (6, None, "frames", r"start_frame: found 6; the video has 5 frames"),
    ],
)
def test_what_lies_behind_the_end_is_refused(start: float, stop: float | None, unit: str, message: str) -> None:
    with pytest.raises(SegmentError, match=message):
        frame_span(segment(start, stop), unit, TIMES)


def test_numbers_are_labels_and_names_are_numbered_by_the_alphabet() -> None:
    assert number_labels(["3", "0", "3"]) == ([3, 0, 3], None)
    assert number_labels(["wash", "cut", "wash"]) == ([1, 0, 1], ["cut", "wash"])
    assert number_labels(["1", "two"]) == ([0, 1], ["1", "two"])


def test_videos_are_dealt_out_whole_in_the_shares_that_are_asked_for() -> None:
    files = [f"{n}.mp4" for n in range(20)]
    dealt = draw_splits(files, (0.7, 0.15, 0.15), seed=0)
    assert sorted(dealt) == sorted(files)
    assert [list(dealt.values()).count(split) for split in ("train", "val", "test")] == [14, 3, 3]
    assert draw_splits(files, (0.7, 0.15, 0.15), seed=0) == dealt != draw_splits(files, (0.7, 0.15, 0.15), seed=1)


def test_few_videos_still_leave_one_for_each_split() -> None:
    assert sorted(draw_splits(["a", "b", "c"], (0.9, 0.05, 0.05), 0).values()) == ["test", "train", "val"]
    assert sorted(draw_splits(["a", "b"], (0.9, 0.1, 0), 0).values()) == ["train", "val"]
    assert list(draw_splits(["a"], (0.8, 0.2, 0), 0).values()) == ["train"]


def test_clips_of_a_video_are_numbered_whatever_becomes_of_others() -> None:
    rows = [segment(0, 0.08), segment(9, 10), segment(0.08, 0.2), segment(0, 1, file="gone.mp4")]
    labelled, wrong = label(Table(Path("t.csv"), "seconds", rows), {"a.mp4": {"times": TIMES}}, (1, 0, 0), 0)
    assert [clip.clip_id for clip in labelled.splits["train"]] == ["a_0", "a_2"]
    assert wrong == ["t.csv:2: a.mp4: start: found 9 s; the video ends at 0.20 s"]
