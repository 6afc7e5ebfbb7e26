"""The pace of writing, worked out by hand."""

from preprocess.job import pace


def test_rate_and_time_left_follow_from_the_share_that_is_written() -> None:
    # A quarter of 400 MB and 40 clips in 5 s: the other three quarters take 15 s.
    assert pace(100_000_000, 400_000_000, 40, 5.0) == "2.0 clips/s  20.0 MB/s  0:00:15 left"


def test_nothing_written_yet_has_no_time_left() -> None:
    assert pace(0, 400_000_000, 40, 5.0) == "0.0 clips/s  0.0 MB/s"


def test_more_bytes_than_planned_are_the_whole() -> None:
    assert pace(500, 400, 40, 5.0) == "8.0 clips/s  0.0 MB/s  0:00:00 left"
