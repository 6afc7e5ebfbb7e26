"""Presentation times of a video's frames: ffmpeg's best effort, over the whole video."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]

LEAP = 10.0  # seconds that a container whose times may restart cannot mean; ffmpeg's -dts_delta_threshold
LONG_LEAP = 600.0  # and that no other means, though its header's length has room for them
MAX_MENDED = 0.1  # of a video's frames; one may always be
EPSILON = 1e-6  # seconds; times come from decimals and from fractions
MAX_NAMED = 3


class TimesError(Exception):
    """Times that cannot be mended, and why."""


class Stamp(NamedTuple):
    """What a file says of a frame, in seconds of its own clock."""

    pts: float | None
    dts: float | None


@dataclass(frozen=True)
class Facts:
    """A file's own account of its frames, in seconds of its clock; None: not said."""

    start: float | None  # the container's, which may be that of the sound
    stream_start: float | None  # the video stream's
    length: float | None  # of the container
    rate: float  # frames per second, for frames without times
    restarts: bool  # whether times may begin again in such a container (MPEG-TS), as those of joined files do


class Times(NamedTuple):
    """When each frame is shown, in seconds since the container's start; what was mended."""

    seconds: list[float]
    mended: list[str]


def mend_times(stamps: Sequence[Stamp], facts: Facts) -> Times:
    """The times of a video's frames, ascending.

    PTS count unless DTS are in better order, and the rate where there are neither: ffmpeg's `guess_correct_pts`, but
    decided for the video as a whole. What is left of disorder is mended at the frames where it is.

    Raises:
        TimesError: there is too much of it.
    """
    clock, mended = _choose_clock(stamps, facts)
    steps = np.diff(clock)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1 / facts.rate
    new, positions = _mend_steps(steps, usual, _are_leaps(steps, clock[1:], facts))
    num_mended = sum(map(len, positions.values()))
    if num_mended > max(1, MAX_MENDED * len(clock)):
        raise TimesError(
            f"has times in disorder at {num_mended} of {len(clock)} frames; give it new ones, for "
            f"25 frames/s by: ffmpeg -i OLD -vf setpts=N/25/TB -r 25 -crf 12 NEW.mp4"
        )
    # Differences are added, so that a time which needs none stays exactly what the file says.
    seconds = clock + _shift(clock[0], facts) + np.concatenate([[0.0], np.cumsum(new - steps)])
    mended += [_told(kind, where, seconds, steps) for kind, where in positions.items() if where]
    return Times(seconds.tolist(), mended)


def _choose_clock(stamps: Sequence[Stamp], facts: Facts) -> tuple[Seconds, list[str]]:
    """Seconds since the container's start by the stamps in better order, and notes."""
    pts, dts = np.array(stamps, np.float64).T  # None becomes NaN
    start = facts.stream_start if facts.start is None else facts.start
    if np.isnan(pts).all() and np.isnan(dts).all():
        return np.arange(len(pts)) / facts.rate, [
            f"it has no times; {facts.rate:.5g} frames/s are taken, its codec's own rate"
        ]
    if _num_faults(pts) <= _num_faults(dts):
        clock = _fill(pts, facts.rate)
        return clock - (clock[0] if start is None else start), []
    # A frame's DTS is that of the packet which let the decoder show it, later by the codec's delay.
    clock = _fill(dts, facts.rate)
    delay = 0.0 if facts.stream_start is None or start is None else facts.stream_start - start
    return clock - clock[0] + delay, ["its presentation times run backwards or are missing; decoding times are taken"]


def _num_faults(clock: Seconds) -> float:
    """Times that are missing (but for the last) or not after the one before."""
    known = np.flatnonzero(~np.isnan(clock))
    if not len(known):
        return np.inf
    return int(known[-1] + 1 - len(known) + (np.diff(clock[known]) <= 0).sum())


def _fill(clock: Seconds, rate: float) -> Seconds:
    """Put times where none are: each an interval after the one before."""
    known = np.flatnonzero(~np.isnan(clock))
    interval = float(np.median(np.diff(clock[known]) / np.diff(known))) if len(known) > 1 else 1 / rate
    frames = np.arange(len(clock))
    nearest = known[np.maximum(np.searchsorted(known, frames, side="right") - 1, 0)]
    return clock[nearest] + (frames - nearest) * interval


def _are_leaps(steps: Seconds, ends: Seconds, facts: Facts) -> NDArray[np.bool_]:
    """Which steps lead further than a video can mean; `ends` is where they lead to."""
    is_beyond = ends > (np.inf if facts.length is None else facts.length + 1)
    leaps: NDArray[np.bool_] = (steps > LONG_LEAP) | ((steps > LEAP) & (is_beyond | facts.restarts))
    return leaps


def _shift(first: float, facts: Facts) -> float:
    """What brings the first frame to the start, if it lies before it or impossibly far after it."""
    is_leap = _are_leaps(np.array([first]), np.array([first]), facts)[0]
    return -first if first < 0 or is_leap else 0.0


def _mend_steps(steps: Seconds, usual: float, is_leap: NDArray[np.bool_]) -> tuple[Seconds, dict[str, list[int]]]:
    """Corrected steps between frames, and the frames, from 0, of each kind of fault."""
    new = steps.copy()
    positions: dict[str, list[int]] = {"restarts": [], "leaps": [], "is out of order": []}
    position = 0
    while position < len(steps):
        here, after = steps[position], steps[position + 1] if position + 1 < len(steps) else 0.0
        num_equal = int(np.argmax(np.append(steps[position:], 1) != 0))
        if here * after < 0 < here + after:  # one frame alone is off: to where its neighbours have it
            new[position : position + 2] = (here + after) / 2
            positions["is out of order"].append(position + 1)
            position += 1
        elif num_equal:  # frames of one time share the step to the next
            ends = position + num_equal
            is_step = ends < len(steps) and steps[ends] > 0 and not is_leap[ends]
            new[position : ends + is_step] = steps[ends] / (num_equal + 1) if is_step else usual
            positions["is out of order"] += range(position + 1, ends + 1)
            position = ends - 1 + is_step
        elif here < 0 or is_leap[position]:
            new[position] = usual
            positions["restarts" if here < 0 else "leaps"].append(position + 1)
        position += 1
    return new, positions


def _told(kind: str, frames: Sequence[int], seconds: Seconds, steps: Seconds) -> str:
    """What was mended, where, and by how much."""
    named = ", ".join(
        f"{frame + 1} ({seconds[frame]:.2f} s, by {steps[frame - 1]:.6g} s)" for frame in frames[:MAX_NAMED]
    )
    more = f" and {len(frames) - MAX_NAMED} more" if len(frames) > MAX_NAMED else ""
    return f"its time {kind} at frame {named}{more}; it goes on from the frame before"


def at_rate(seconds: Sequence[float], fps: float) -> tuple[list[float], list[int]]:
    """Multiples of 1 / fps s from the first frame to the last, and the frame shown at each."""
    first, last = np.ceil((seconds[0] - EPSILON) * fps), np.floor((seconds[-1] + EPSILON) * fps)
    times = np.arange(first, max(first, last) + 1) / fps + 0.0  # which makes no 0 a -0
    shown = np.searchsorted(seconds, times + EPSILON, side="right") - 1
    return times.tolist(), shown.tolist()
