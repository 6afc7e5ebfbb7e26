"""Which clips come next and how each is seen: a pure function of (seed, epoch, clip)."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# What a random stream is for. SeedSequence pads its entropy with zeros, so (seed, epoch) and (seed, epoch, 0) would be
# one stream; a tag that is never zero keeps the streams apart.
_ORDER, _VIEW, _APART = 1, 2, 3


@dataclass(frozen=True)
class ViewOptions:
    """What of each clip is seen; the augmentations act in training alone.

    Attributes:
        num_frames: T, frames per clip.
        crop_size: pixels, height and width of what comes out.
        temporal: "uniform", or "jitter": one frame at random in each of T equal parts of the stored frames.
        mirror: probability of a horizontal mirror.
        scale: (low, high), side of the crop as a fraction of the frame's short side; (1, 1) is off. Evaluation takes
            the middle of the range, so that things have the size there that they have in training on average.
        color: strength s of the colour jitter: brightness, contrast and saturation factors within [1 - s, 1 + s].
        synchronized: all streams are seen through the same window, mirrored alike. False, an ablation: each stream
            after the first draws its own window and mirror, as the published code of X-Norm does.
    """

    num_frames: int = 16
    crop_size: int = 224
    temporal: Literal["uniform", "jitter"] = "uniform"
    mirror: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    color: float = 0.0
    synchronized: bool = True


@dataclass(frozen=True)
class MultiView:
    """Multi-view testing: how many samples in time evaluation takes of each clip, and crops of each.

    Non-local networks (Wang et al. 2018) and SlowFast (Feichtenhofer et al. 2019) report 10 x 3.
    """

    num_temporal: int = 1
    num_spatial: int = 1

    @property
    def per_clip(self) -> int:
        """Views per clip; number `temporal * num_spatial + spatial` is of that sample and that crop."""
        return self.num_temporal * self.num_spatial


SINGLE_VIEW = MultiView()


@dataclass(frozen=True)
class View:
    """How one clip is seen: one decision, used by both streams.

    Attributes:
        clip: position in the split.
        frames: int64 [T], positions among the clip's stored frames.
        top, left, side: the square window in the frame's own pixels, resized to crop_size where side differs from it.
        mirror: whether the window is mirrored left to right (and u inverted).
        color: factors of brightness, contrast and saturation of RGB.
        view_index: which of the views of the clip this is, from 0; in training, of the epoch.
    """

    clip: int
    frames: NDArray[np.int64]
    top: int
    left: int
    side: int
    mirror: bool
    color: tuple[float, float, float]
    view_index: int = 0

    def window(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The window of a frame [H, W, C], as a view: [side, side, C]."""
        return frame[self.top : self.top + self.side, self.left : self.left + self.side]


@dataclass(frozen=True)
class BatchPlan:
    """One batch of one rank, part of a step of all ranks; equal where epoch and position are.

    Attributes:
        epoch: the epoch whose order is taken from.
        step_start, step_end: the positions in that order which all ranks' batches cover together.
        clips: int64 [B], this rank's clips.
        view_ids: int64 [B], which view of each; in training, how often it has come before in the epoch.
        replaced: int64 [at most B], clips of the order that others stand in for, as they are corrupt.
    """

    epoch: int
    step_start: int
    step_end: int = field(compare=False)
    clips: NDArray[np.int64] = field(compare=False)
    view_ids: NDArray[np.int64] = field(compare=False)
    replaced: NDArray[np.int64] = field(compare=False)


def epoch_order(num_clips: int, *, seed: int, epoch: int, train: bool) -> NDArray[np.int64]:
    """The clips of an epoch in order, int64 [num_clips]: a permutation in training, file order else."""
    if not train:
        return np.arange(num_clips)
    return np.random.default_rng((seed, epoch, _ORDER)).permutation(num_clips)


def balanced_order(labels: NDArray[np.int64], *, balance: float, seed: int, epoch: int) -> NDArray[np.int64]:
    """The clips of an epoch that shows classes more evenly than the split has them, int64 [len(labels)].

    A class of n clips gets a share of the epoch in proportion to n ** (1 - balance): 0 is what the split has, 1 the
    same for each class (Kang et al., ICLR 2020, equation 1). Shares are kept to within a clip, and the clips of a class
    come equally often, to within one, by systematic sampling: one random offset, then equal steps over all clips.
    """
    rng = np.random.default_rng((seed, epoch, _ORDER))
    shuffled = rng.permutation(len(labels))
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]  # class after class, each in random order
    _, class_of, num_clips = np.unique(labels[shuffled], return_inverse=True, return_counts=True)
    weights = num_clips[class_of] ** -balance
    ends = np.cumsum(weights) * (len(labels) / weights.sum())
    taken = np.searchsorted(ends, np.arange(len(labels)) + rng.random(), side="right")
    return rng.permutation(shuffled[np.minimum(taken, len(labels) - 1)])


def occurrences(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each entry of `order` has come before in it: 0 throughout for a permutation."""
    by_clip = np.argsort(order, kind="stable")
    clips = order[by_clip]
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[by_clip] = np.arange(len(order)) - np.searchsorted(clips, clips)
    return numbers


def pass_over(order: NDArray[np.int64], corrupt: Collection[int]) -> NDArray[np.int64]:
    """`order` with each corrupt clip replaced by the next sound one, round its end.

    One clip at least has to be sound. A clip's stand-in depends on the clips from its own position to that one alone.
    So a loader that has found out about those alone hands out what one that knows all corrupt clips would: after
    resuming and on every rank.
    """
    sound = np.flatnonzero(~np.isin(order, list(corrupt)))
    return order[sound[np.searchsorted(sound, np.arange(len(order))) % len(sound)]]


def epoch_batches(
    order: NDArray[np.int64],
    *,
    epoch: int,
    position: int,
    batch_size: int,
    rank: int,
    world_size: int,
    train: bool,
    per_clip: int = 1,
    corrupt: Collection[int] = (),
) -> Iterator[BatchPlan]:
    """The batches of one rank from `position` on, which counts the views that all ranks have had.

    Each clip of the order is seen in `per_clip` views in a row. A step takes the next batch_size * world_size views,
    each rank its own run of batch_size. Training leaves out what does not fill a step; else every view comes once, so
    the last batch may be short, or none. The next clip of the order stands in for one that is `corrupt`. A clip that
    comes several times in a training epoch has another view each time.
    """
    repeats = occurrences(order)
    sound = pass_over(order, corrupt) if corrupt else order
    step, num_views = batch_size * world_size, len(order) * per_clip
    stop = num_views - step + 1 if train else num_views
    for begin in range(position, stop, step):
        end = min(begin + step, num_views)
        start = min(begin + rank * batch_size, end)
        clips, view_ids = np.divmod(np.arange(start, min(start + batch_size, end)), per_clip)
        if len(clips):
            view_ids += repeats[clips]
            replaced = order[clips][order[clips] != sound[clips]]
            yield BatchPlan(epoch, begin, end, sound[clips], view_ids, replaced)


def draw_view(
    clip: int,
    options: ViewOptions,
    *,
    num_stored: int,
    height: int,
    width: int,
    seed: int,
    epoch: int,
    train: bool,
    multi_view: MultiView = SINGLE_VIEW,
    view_index: int = 0,
    stream: int = 0,
) -> View:
    """How `clip`, stored as `num_stored` frames of height x width pixels, is seen in `epoch`.

    In evaluation nothing is random, and this is view number `view_index` of `multi_view`; in training, what is drawn
    the `view_index`-th time in an epoch, from 0. `stream` is which of the streams sees it, from 0: all alike, unless
    they are not `synchronized`.
    """
    if not train:
        return _evaluated_view(clip, options, num_stored, height, width, multi_view, view_index)
    drawn = (clip, view_index) if view_index else (clip,)  # the first draw of an epoch depends on the clip alone
    rng = np.random.default_rng((seed, epoch, _VIEW, *drawn))
    # Everything is drawn, whatever is switched on: an option changes what it names and nothing else.
    scale, down, right, mirror, *color = rng.random(7).tolist()
    if stream > 0 and not options.synchronized:
        scale, down, right, mirror = np.random.default_rng((seed, epoch, _APART, stream, *drawn)).random(4).tolist()
    side = _side(options, height, width, scale)
    brightness, contrast, saturation = (1 + options.color * (2 * draw - 1) for draw in color)
    return View(
        clip,
        jittered_frames(num_stored, rng.random(options.num_frames))
        if options.temporal == "jitter"
        else uniform_frames(num_stored, options.num_frames),
        top=int(down * (height - side + 1)),
        left=int(right * (width - side + 1)),
        side=side,
        mirror=bool(mirror < options.mirror),
        color=(brightness, contrast, saturation),
        view_index=view_index,
    )


def _evaluated_view(
    clip: int, options: ViewOptions, num_stored: int, height: int, width: int, multi_view: MultiView, view_index: int
) -> View:
    """One of the views of a clip in evaluation.

    In time, the views deal out T * views evenly spaced frames among them, one each in turn: a single view takes
    uniform_frames. In space, the crops lie evenly from one end of the longer side to the other, in the middle of the
    shorter one: a single crop lies in the centre.
    """
    sample, crop = divmod(view_index, multi_view.num_spatial)
    side = _side(options, height, width, draw=0.5)
    part, parts = (crop, multi_view.num_spatial - 1) if multi_view.num_spatial > 1 else (1, 2)
    along, across = (max(height, width) - side) * part // parts, (min(height, width) - side) // 2
    return View(
        clip,
        uniform_frames(num_stored, options.num_frames * multi_view.num_temporal)[sample :: multi_view.num_temporal],
        top=along if height > width else across,
        left=across if height > width else along,
        side=side,
        mirror=False,
        color=(1.0, 1.0, 1.0),
        view_index=view_index,
    )


def uniform_frames(num_stored: int, num_frames: int) -> NDArray[np.int64]:
    """`num_frames` evenly spaced positions in [0, num_stored), as the published code takes them; int64 [T]."""
    return np.linspace(0, num_stored - 1, num_frames).astype(np.int64)


def jittered_frames(num_stored: int, draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """One position in each of T equal parts of [0, num_stored), at `draws` in [0, 1) of the part; int64 [T]."""
    parts = (np.arange(len(draws)) + draws) * (num_stored / len(draws))
    return np.minimum(parts.astype(np.int64), num_stored - 1)


def _side(options: ViewOptions, height: int, width: int, draw: float) -> int:
    short = min(height, width)
    if options.scale == (1.0, 1.0):
        return min(options.crop_size, short)
    low, high = options.scale
    return max(1, round(short * (low + (high - low) * draw)))
