"""Which training clips a short training learns from and which it is measured on: whole videos, stratified by class."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError

Positions = NDArray[np.int64]
_SUBSET, _HOLDOUT = 3, 4  # what a random stream is for; the sampler has 1 and 2


class Parts(NamedTuple):
    """Positions in a split, ascending."""

    train: Positions
    holdout: Positions


def hold_out(videos: Sequence[bytes], labels: NDArray[np.int64], *, subset: float, holdout: float, seed: int) -> Parts:
    """Take a share `subset` of the clips, and hold about a share `holdout` of those out, no video on both sides.

    Videos are chosen so that each class's share comes near `holdout`; a class of two videos and more is on both sides
    unless another class stands in its way. The same arguments give the same parts.

    Raises:
        UserError: all clips are of one video.
    """
    classes, label = np.unique(labels, return_inverse=True)
    clips = _draw_subset(label, subset, np.random.default_rng((seed, _SUBSET)))
    names, video = np.unique(np.asarray(videos)[clips], return_inverse=True)
    if len(names) < 2:
        raise UserError(
            f"short training: all of its {len(clips)} clips are of the video {names[0].decode()}, so no video can be "
            "held out; use more of the clips (a larger subset)"
        )
    counts = np.zeros((len(names), len(classes)))  # clips of each video and class
    np.add.at(counts, (video, label[clips]), 1)
    counts = counts[:, counts.sum(axis=0) > 0]
    order = np.random.default_rng((seed, _HOLDOUT)).permutation(len(names))
    held_out = np.zeros(len(names), dtype=bool)
    held_out[order[_choose(counts[order], holdout)]] = True
    return Parts(clips[~held_out[video]], clips[held_out[video]])


def _draw_subset(label: NDArray[np.int64], share: float, rng: np.random.Generator) -> Positions:
    """A share of the clips of each class at random, of each at least two where it has them; ascending."""
    drawn = []
    for value in range(label.max() + 1):
        clips = rng.permutation(np.flatnonzero(label == value))
        drawn.append(clips[: max(2, round(share * len(clips)))])
    return np.sort(np.concatenate(drawn))


def _choose(counts: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Videos whose clips, of `counts` [videos, classes], come nearest to `share` of each class: local search."""
    chosen = np.zeros(len(counts), dtype=bool)
    distance = np.inf
    while True:
        # What each video would bring if it changed sides, [videos].
        signs = np.where(chosen, -1, 1)[:, np.newaxis]
        distances = _distance(counts[chosen].sum(axis=0) + signs * counts, counts.sum(axis=0), share)
        best = int(distances.argmin())
        if distances[best] >= distance:
            return np.flatnonzero(chosen)
        chosen[best] = ~chosen[best]
        distance = distances[best]


def _distance(held_out: NDArray[np.float64], total: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """How far held-out counts [..., classes] are from `share`; an empty side counts most, a missing class next."""
    fractions = held_out / total
    missing = ((held_out == 0) | (held_out == total)).sum(axis=-1)
    whole = held_out.sum(axis=-1)
    empty = (whole == 0) | (whole == total.sum())
    distances: NDArray[np.float64] = ((fractions - share) ** 2).mean(axis=-1) + missing + 1e6 * empty
    return distances
