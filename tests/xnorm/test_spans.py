"""Windows cover a video from its first frame to its last."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError
from xnorm.spans import Cut, window_starts


@pytest.mark.parametrize(
    ("begin", "end", "window", "hop", "starts"),
    [
        (0.0, 4.0, 2.0, 1.0, [0.0, 1.0, 2.0]),
        (0.0, 4.5, 2.0, 1.0, [0.0, 1.0, 2.0, 2.5]),  # the last one ends with the video
        (0.5, 4.5, 2.0, 2.0, [0.5, 2.5]),
        (0.0, 1.5, 2.0, 1.0, [0.0]),
        (0.0, 3.0, 1.0, 5.0, [0.0, 2.0]),  # between them lies what nobody asked for
    ],
)
def test_windows_begin_every_hop_and_end_with_the_video(
    begin: float, end: float, window: float, hop: float, starts: list[float]
) -> None:
    assert window_starts(begin, end, window, hop) == pytest.approx(starts)


seconds = st.floats(0.05, 50)


@given(begin=st.floats(0, 5), length=seconds, window=seconds, hop=seconds)
def test_windows_lie_within_the_video_and_leave_nothing_between(
    begin: float, length: float, window: float, hop: float
) -> None:
    end, hop = begin + length, min(hop, window)
    starts = window_starts(begin, end, window, hop)
    assert starts[0] == begin
    assert starts == sorted(set(starts))
    assert all(later - earlier <= hop + 1e-5 for earlier, later in pairwise(starts))
    assert len(starts) == 1 or abs(starts[-1] + window - end) < 1e-5
    assert len(starts) > 1 or window >= length - 1e-5


@pytest.mark.parametrize("cut", [{"window": 0.0}, {"window": float("nan")}, {"hop": 1.0}, {"window": 1.0, "hop": -1.0}])
def test_a_cut_that_makes_no_sense_is_refused(cut: dict) -> None:
    with pytest.raises(ConfigError):
        Cut(**cut)
