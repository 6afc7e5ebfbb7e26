"""Intervals: of one share, and of a mean over clips and seeds, a bootstrap widened by what seeds differ in beside."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
NUM_DRAWS = 20_000
SEED = 0


class Interval(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float


def share_interval(hits: int, clips: int) -> Interval:
    """The 95 % score interval of a share, `hits` of `clips` (1 and more), for one set of weights.

    Of the few clips of a class, all right or all wrong, a bootstrap says nothing; this one says how few they are. E. B.
    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (158), 1927.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, weight = hits / clips, 1 / (1 + z * z / clips)
    middle = weight * (share + z * z / (2 * clips))
    half = weight * z * math.sqrt(share * (1 - share) / clips + (z / (2 * clips)) ** 2)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def accuracy_interval(hits: NDArray[np.float64]) -> Interval:
    """The 95 % interval of the accuracy in `hits` [seeds, clips], each 0 or 1.

    Where all are right, or all wrong, there is nothing to draw, and it is the score interval of one seed's clips.
    """
    if hits.min() == hits.max():
        return share_interval(int(hits[0].sum()), hits.shape[1])
    return mean_interval(hits, lowest=0.0)


def mean_interval(values: NDArray[np.float64], lowest: float = -1.0, highest: float = 1.0) -> Interval:
    """The 95 % interval of the mean of `values` [seeds, clips], each between `lowest` and `highest`.

    `values` are hits (0 or 1), or for two methods the differences of their hits, clip by clip and seed by seed, which
    makes it a paired comparison. Whether the mean of many seeds over many clips of this kind is 0 is what it asks.

    Clips are drawn with replacement, the same for all seeds: the percentile interval of Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13. Seeds are few, and a bootstrap of three of them would never leave
    their range. So each draw is moved by Student's t with S - 1 degrees of freedom times sqrt(variance / S), where the
    variance between seeds is the one of a crossed two-way layout, max(0, (MS_seed - MS_residual) / N): Searle, Casella
    and McCulloch, Variance Components, 1992, chapter 4. Where seeds differ no more than their clips explain, and with
    one seed, it is the bootstrap over clips alone: of one seed it is an interval for these weights, not for a method.
    """
    num_seeds, num_clips = values.shape
    generator = np.random.default_rng(SEED)
    # As many draws of N clips, counted by how often each distinct value comes: far fewer numbers than clips.
    distinct, counts = np.unique(values.mean(axis=0), return_counts=True)
    means = generator.multinomial(num_clips, counts / num_clips, NUM_DRAWS) @ distinct / num_clips
    if num_seeds > 1:
        scale = np.sqrt(_variance_between_seeds(values) / num_seeds)
        means += generator.standard_t(num_seeds - 1, NUM_DRAWS) * scale
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).clip(lowest, highest)
    return Interval(float(low), float(high))


def _variance_between_seeds(values: NDArray[np.float64]) -> float:
    """The part of the variance of seeds' means over [S, N] that their clips do not explain."""
    num_seeds, num_clips = values.shape
    seeds, clips = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    degrees = max(1, (num_seeds - 1) * (num_clips - 1))  # of one clip there is no residual: all counts as the seeds'
    residual = ((values - seeds - clips + values.mean()) ** 2).sum() / degrees
    return max(0.0, float(seeds.var(ddof=1) - residual / num_clips))
