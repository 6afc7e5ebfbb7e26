"""How a clip is seen: its window, frames, mirror and colours; a pure function of (seed, epoch, clip)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# What a random stream is for. SeedSequence pads its entropy with zeros, so (seed, epoch) and (seed, epoch, 0) would be
# one stream; a tag that is never zero keeps the streams apart.
ORDER, VIEW, APART = 1, 2, 3


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
    rng = np.random.default_rng((seed, epoch, VIEW, *drawn))
    # Everything is drawn, whatever is switched on: an option changes what it names and nothing else.
    scale, down, right, mirror, *color = rng.random(7).tolist()
    if stream > 0 and not options.synchronized:
        scale, down, right, mirror = np.random.default_rng((seed, epoch, APART, stream, *drawn)).random(4).tolist()
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
