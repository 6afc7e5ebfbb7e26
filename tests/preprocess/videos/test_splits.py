"""Frame numbers, class numbers and splits of one's own clips."""

from itertools import pairwise
from pathlib import Path

import pytest

from common.errors import ConfigError, UserError
from preprocess.videos.extract_video import ArchiveBytes, Fingerprint, VideoRecord
from preprocess.videos.segments import Segment, Table
from preprocess.videos.splits import (
    SegmentError,
    alike_labels,
    draw_splits,
    frame_span,
    label,
    number_labels,
    read_classes,
)

TIMES = [0.0, 0.04, 0.08, 0.12, 0.16]  # the fifth frame is shown until 0.2


def record() -> VideoRecord:
    return VideoRecord(
        source=Fingerprint(bytes=1, crc32c=0),
        bytes=ArchiveBytes(rgb=1, flow=1),
        frames=5,
        flow_frames=5,
        width=96,
        height=64,
        clipped=0.0,
        times=TIMES,
        notes=[],
    )


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
    assert frame_span(segment(start, stop), "seconds", TIMES, 5) == expected


def test_segments_that_follow_one_another_share_no_frame() -> None:
    times = [n * 1001 / 30000 for n in range(90)]
    cuts = [0, 0.5, 1.1, 1.73, 2.9]
    spans = [frame_span(segment(*pair), "seconds", times, 90) for pair in pairwise(cuts)]
    assert all(before[1] + 1 == after[0] for before, after in pairwise(spans))


def test_seconds_follow_a_rate_that_varies() -> None:
    assert frame_span(segment(0.5, 1.0), "seconds", [0.0, 0.1, 0.6, 0.9, 1.0], 5) == (3, 4)


def test_frames_are_taken_as_they_are() -> None:
    assert frame_span(segment(2, 4), "frames", TIMES, 5) == (2, 4)
    assert frame_span(segment(None, None), "frames", TIMES, 5) == (1, 5)


@pytest.mark.parametrize(
    ("start", "stop", "unit", "message"),
    [
        (0.2, None, "seconds", r"start: found 0\.2 s; the video ends at 0\.20 s"),
        (0.1, 0.8, "seconds", r"stop: found 0\.8 s; the video ends at 0\.20 s"),
        (2, 6, "frames", r"stop_frame: found 6; the video has 5 frames"),
        (6, None, "frames", r"start_frame: found 6; the video has 5 frames"),
    ],
)
def test_what_lies_after_the_end_is_refused(start: float, stop: float | None, unit: str, message: str) -> None:
    with pytest.raises(SegmentError, match=message):
        frame_span(segment(start, stop), unit, TIMES, 5)


def test_numbers_are_labels_and_names_are_numbered_by_the_alphabet() -> None:
    assert number_labels(["3", "0", "3"]) == ([3, 0, 3], None)
    assert number_labels(["wash", "cut", "wash"]) == ([1, 0, 1], ["cut", "wash"])
    assert number_labels(["1", "two"]) == ([0, 1], ["1", "two"])


def test_videos_are_dealt_out_whole_in_the_shares_that_are_asked_for() -> None:
    files = [f"{n}.mp4" for n in range(20)]
    labels = {file: {0} for file in files}
    dealt = draw_splits(labels, (0.7, 0.15, 0.15), seed=0)
    assert sorted(dealt) == sorted(files)
    assert [list(dealt.values()).count(split) for split in ("train", "val", "test")] == [14, 3, 3]
    assert draw_splits(labels, (0.7, 0.15, 0.15), seed=0) == dealt != draw_splits(labels, (0.7, 0.15, 0.15), seed=1)


def test_few_videos_still_leave_one_for_each_split() -> None:
    assert sorted(draw_splits({file: {0} for file in "abc"}, (0.9, 0.05, 0.05), 0).values()) == ["test", "train", "val"]
    assert sorted(draw_splits({file: {0} for file in "ab"}, (0.9, 0.1, 0), 0).values()) == ["train", "val"]
    assert list(draw_splits({"a": {0}}, (0.8, 0.2, 0), 0).values()) == ["train"]


def test_clips_of_a_video_are_numbered_whatever_becomes_of_others() -> None:
    rows = [segment(0, 0.08), segment(9, 10), segment(0.08, 0.2), segment(0, 1, file="gone.mp4")]
    labelled, wrong = label(Table(Path("t.csv"), "seconds", rows), {"a.mp4": record()}, (1, 0, 0), 0)
    assert [clip.clip_id for clip in labelled.splits["train"]] == ["a_0", "a_2"]
    assert wrong == ["t.csv:2: a.mp4: start: found 9 s; the video ends at 0.20 s"]


def test_a_video_whose_frames_begin_late_has_no_frames_before() -> None:
    late = [0.5, 0.54, 0.58]
    assert frame_span(segment(0.2, 0.56), "seconds", late, 3) == (1, 2)
    with pytest.raises(SegmentError, match=r"stop: found 0\.4 s; the video's first frame is shown at 0\.50 s"):
        frame_span(segment(0, 0.4), "seconds", late, 3)


def test_a_folder_without_a_rate_has_frames_but_no_seconds() -> None:
    assert frame_span(segment(None, None), "seconds", None, 5) == (1, 5)
    assert frame_span(segment(2, 4), "frames", None, 5) == (2, 4)
    with pytest.raises(SegmentError, match="a folder of frames has no seconds; count frames"):
        frame_span(segment(0.1, 0.2), "seconds", None, 5)


@pytest.mark.parametrize("seed", range(40))
def test_no_class_is_left_without_training_clips_where_that_can_be_helped(seed: int) -> None:
    # Class n is in the videos n and n + 1 alone, and of the ten videos five go to val and test.
    labels = {f"{n}.mp4": {n - 1, n} - {-1} for n in range(10)}
    dealt = draw_splits(labels, (0.5, 0.3, 0.2), seed)
    assert set().union(*(labels[file] for file, split in dealt.items() if split == "train")) == set(range(10))
    assert set(dealt.values()) == {"train", "val", "test"}


def test_a_class_of_one_video_goes_to_train_and_the_shares_stay() -> None:
    labels = {f"{n}.mp4": {0, 1} for n in range(8)} | {"rare.mp4": {2}, "both.mp4": {2, 3}}
    for seed in range(20):
        dealt = draw_splits(labels, (0.5, 0.5, 0), seed)
        assert dealt["both.mp4"] == "train"
        assert list(dealt.values()).count("val") == 5


def test_where_each_video_has_a_class_of_its_own_validation_still_gets_one() -> None:
    dealt = draw_splits({"a": {0}, "b": {1}, "c": {2}}, (0.6, 0.4, 0), 0)
    assert sorted(dealt.values()) == ["train", "train", "val"]


def test_the_split_is_drawn_from_the_clips_that_can_be_used() -> None:
    rows = [segment(0, 0.1, "x", "a.mp4"), segment(9, 10, "y", "bad.mp4"), segment(0, 0.1, "y", "b.mp4")]
    files = dict.fromkeys(("a.mp4", "bad.mp4", "b.mp4"), record())
    for seed in range(5):
        labelled, _ = label(Table(Path("t.csv"), "seconds", rows), files, (0.5, 0.5, 0), seed)
        assert sorted(labelled.splits) == ["train", "val"]


def test_new_names_are_numbered_after_those_that_have_numbers() -> None:
    known = ["wash", "cut"]
    assert number_labels(["cut", "stir", "peel"], known) == ([1, 3, 2], ["wash", "cut", "peel", "stir"])
    assert number_labels(["cut"], known) == ([1], known)
    assert number_labels(["1", "0"], known) == ([1, 0], known)
    assert number_labels(["7"], ["5", "7"]) == ([1], ["5", "7"])  # these numbers are names
    with pytest.raises(UserError, match="label: found 2; --classes numbers its 2 classes from 0"):
        number_labels(["2"], known)


def test_all_known_classes_count_whether_they_occur_or_not() -> None:
    labelled, _ = label(
        Table(Path("t.csv"), "seconds", [segment(0, 0.1, "cut")]),
        {"a.mp4": record()},
        (1, 0, 0),
        0,
        ["wash", "cut", "dry"],
    )
    assert (labelled.num_classes, labelled.splits["train"][0].label) == (3, 1)


def test_classes_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id,key\n1,cut\n0,wash\n")
    assert read_classes(tmp_path / "classes.csv") == ["wash", "cut"]


@pytest.mark.parametrize(
    "content", ["", "id,key\n", "id,key\n1,a\n", "id,key\n0,a\n0,b\n", "id,key\n0,a\n1,a\n", "a,b\n0,1\n"]
)
def test_other_files_are_no_classes(content: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"--classes .*classes\.csv: allowed: the columns id, from 0 without gaps"):
        read_classes(tmp_path / "classes.csv")


def test_labels_that_differ_in_their_writing_alone_are_found() -> None:
    accents = "r\u00f6sten", "ro\u0308sten"  # one letter, and two
    assert alike_labels(["Pour", "cut", "pour", "pour  water", "Pour water", *accents]) == [
        ("Pour", "pour"),
        ("pour  water", "Pour water"),
        accents,
    ]
