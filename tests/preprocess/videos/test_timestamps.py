"""Times of frames: which stamps count, and what is mended where they cannot be true."""

from collections.abc import Sequence

import pytest

from preprocess.videos.timestamps import Facts, Stamp, TimesError, at_rate, mend_times

PLAIN = Facts(start=0.0, stream_start=0.0, length=None, rate=10.0, restarts=False)
STREAM = Facts(start=0.0, stream_start=0.0, length=None, rate=10.0, restarts=True)


def mended(pts: Sequence[float | None], facts: Facts = PLAIN, dts: Sequence[float | None] = ()) -> list[float]:
    """The times, rounded, of which something had to be mended."""
    stamps = [Stamp(*pair) for pair in zip(pts, dts or [None] * len(pts), strict=True)]
    return [round(time, 6) for time in mend_times(stamps, facts).seconds]


def said(pts: Sequence[float | None], facts: Facts = PLAIN, dts: Sequence[float | None] = ()) -> list[str]:
    return mend_times([Stamp(*pair) for pair in zip(pts, dts or [None] * len(pts), strict=True)], facts).mended


def test_times_in_order_are_what_the_file_says_from_the_container_s_start() -> None:
    pts = [1.4, 1.5, 1.7, 1.75]
    facts = Facts(start=1.0, stream_start=1.4, length=None, rate=10.0, restarts=False)
    assert mend_times([Stamp(time, None) for time in pts], facts) == ([time - 1.0 for time in pts], [])


def test_a_video_begins_at_its_first_frame_where_its_container_does_not_say() -> None:
    assert mended([7.0, 7.1], Facts(None, None, None, 10.0, False)) == [0, 0.1]


def test_decoding_times_count_where_presentation_times_run_backwards() -> None:
    # As of H.264 with B-frames in AVI: what are said to be PTS are DTS, in the order of decoding.
    pts, dts = [0.1, 0.4, 0.3, 0.5, 0.2, 0.8], [0.2, 0.3, 0.4, 0.5, None, None]
    assert mended(pts, dts=dts) == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert said(pts, dts=dts) == ["its presentation times run backwards or are missing; decoding times are taken"]


def test_decoding_times_count_where_there_are_no_others_and_begin_where_the_stream_does() -> None:
    late = Facts(start=1.0, stream_start=1.5, length=None, rate=10.0, restarts=False)
    assert mended([None] * 3, late, [1.7, 1.8, 1.9]) == [0.5, 0.6, 0.7]


def test_without_any_times_the_rate_counts() -> None:
    assert mended([None] * 4) == [0, 0.1, 0.2, 0.3]
    assert said([None] * 4) == ["it has no times; 10 frames/s are taken, its codec's own rate"]


def test_a_missing_time_is_an_interval_after_the_one_before() -> None:
    assert mended([0.0, 0.1, None, 0.3, None]) == [0, 0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize("second", [2.0, 0.0, 0.05, 1.1])  # where the second part's times begin; the first ends at 1.9
def test_times_that_restart_go_on_from_the_part_before(second: float) -> None:
    pts = [n / 10 for n in range(20)] + [second + n / 10 for n in range(20)]
    assert mended(pts, STREAM) == [round(n / 10, 6) for n in range(40)]
    assert [text[:34] for text in said(pts, STREAM)] == ["its time restarts at frame 21 (2.0"] * (second < 2)


def test_leaps_are_closed_up_where_a_video_cannot_mean_them() -> None:
    def times(leap: float) -> list[float]:
        return [n / 10 + (leap if n >= 10 else 0) for n in range(20)]

    straight = [round(n / 10, 6) for n in range(20)]
    assert mended(times(5), STREAM)[10] == 6.0  # a still image
    assert mended(times(11), STREAM) == straight
    assert mended(times(60))[10] == 61.0  # a recording that stood still for a minute has the right to
    assert mended(times(1000)) == straight
    assert said(times(1000)) == ["its time leaps at frame 11 (1.00 s, by 1000.1 s); it goes on from the frame before"]
    short = Facts(0.0, 0.0, length=2.0, rate=10.0, restarts=False)
    assert mended(times(60), short) == straight  # beyond what the container says its length is
    assert mended([90000 + time for time in straight]) == straight  # from the sound's start to the first frame


@pytest.mark.parametrize("wrong", [0.05, 0.9, 300.0, 40000.0])
def test_one_frame_that_is_off_lies_between_its_neighbours(wrong: float) -> None:
    pts = [n / 10 for n in range(20)]
    pts[12] = wrong
    assert mended(pts) == [round(n / 10, 6) for n in range(20)]
    assert said(pts)[0].startswith("its time is out of order at frame 13 (1.20 s")


def test_frames_of_one_time_share_the_interval() -> None:
    assert mended([n / 10 for n in (0, 1, 2, 3, 3, 5, 6, 7, 8, 9)]) == [round(n / 10, 6) for n in range(10)]
    assert mended([n / 10 for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 8)])[-1] == 0.9


def test_more_disorder_than_can_be_mended_is_refused() -> None:
    with pytest.raises(TimesError, match="has times in disorder at 10 of 20 frames; give it new ones"):
        mended([0.1 * (n - n % 2) for n in range(20)])


def test_a_rate_takes_the_frame_that_is_shown_at_each_time() -> None:
    seconds = [0.0, 0.04, 0.2, 0.3]
    assert at_rate(seconds, 10) == ([0.0, 0.1, 0.2, 0.3], [0, 1, 2, 3])
    assert at_rate(seconds, 20)[1] == [0, 1, 1, 1, 2, 2, 3]
    assert at_rate([0.41, 0.5, 0.6], 10) == ([0.5, 0.6], [1, 2])
    assert at_rate([0.41], 10) == ([0.5], [0])
