"""Which clips come next: the order of an epoch, one rank's batches of it, and a position in two integers."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from pipeline.views import ORDER


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
    return np.random.default_rng((seed, epoch, ORDER)).permutation(num_clips)


def balanced_order(labels: NDArray[np.int64], *, balance: float, seed: int, epoch: int) -> NDArray[np.int64]:
    """The clips of an epoch that shows classes more evenly than the split has them, int64 [len(labels)].

    A class of n clips gets a share of the epoch in proportion to n ** (1 - balance): 0 is what the split has, 1 the
    same for each class (Kang et al., ICLR 2020, equation 1). Shares are kept to within a clip, and the clips of a class
    come equally often, to within one, by systematic sampling: one random offset, then equal steps over all clips.
    """
    rng = np.random.default_rng((seed, epoch, ORDER))
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


@dataclass
class BatchSampler:
    """The batches of one rank, epoch after epoch.

    Attributes:
        num_clips: clips of an epoch's order.
        batch_size: clips per batch of this rank; views of clips where there are several.
        chosen: int64 [num_clips], ascending: the clips of the split that epochs are made of; None: all of them.
        epoch: the epoch that we are in, or that comes next.
        position: how many of its clips (views of them) all ranks together have been handed.
        per_clip: views of each clip of an epoch, one after the other; 1 in training.
        labels: int64 [num_clips], of the first target; needed where `balance` is not 0.
        balance: of the classes in a training epoch, see balanced_order.
        corrupt: by epoch, the clips that are passed over in it, as they are corrupt in what it shows of them.
    """

    num_clips: int
    batch_size: int
    rank: int
    world_size: int
    seed: int
    train: bool
    chosen: NDArray[np.int64] | None = None
    epoch: int = 0
    position: int = 0
    per_clip: int = 1
    labels: NDArray[np.int64] | None = None
    balance: float = 0.0
    corrupt: dict[int, set[int]] = field(default_factory=dict)
    _started: bool = False
    _seeks: int = 0

    def __iter__(self) -> Iterator[BatchPlan]:
        """The plans of the next epoch, or of what is left of the one that seek() put us in.

        A plan counts as handed out when it is yielded.

        Raises:
            UserError: this epoch was left for another one, so that a position in it means nothing any more.
        """
        if self._started:  # the epoch before was left in the middle
            self.seek(self.epoch + 1, 0)
        self._started, seeks = True, self._seeks
        for plan in self.batches(self.epoch, self.position):
            if self._seeks != seeks:
                raise UserError(
                    f"the loader has left epoch {plan.epoch} since, by a later iter() or load_state_dict(); "
                    "an iterator of before cannot go on: let one be used at a time, by one thread"
                )
            self.position = plan.step_end
            yield plan
        self.seek(self.epoch + 1, 0)

    def seek(self, epoch: int, position: int) -> None:
        """Make the next iter() begin at `position` of `epoch`."""
        self.epoch, self.position, self._started = epoch, position, False
        self._seeks += 1

    def batches(self, epoch: int, position: int) -> Iterator[BatchPlan]:
        """The plans of `epoch` from `position` on."""
        return epoch_batches(
            self.order(epoch),
            epoch=epoch,
            position=position,
            batch_size=self.batch_size,
            rank=self.rank,
            world_size=self.world_size,
            train=self.train,
            per_clip=self.per_clip,
            corrupt=self.corrupt.get(epoch, ()),
        )

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The clips of `epoch` in order, int64 [num_clips]."""
        if self.train and self.balance:
            assert self.labels is not None
            order = balanced_order(self.labels, balance=self.balance, seed=self.seed, epoch=epoch)
        else:
            order = epoch_order(self.num_clips, seed=self.seed, epoch=epoch, train=self.train)
        return order if self.chosen is None else self.chosen[order]

    def batches_from(self, plan: BatchPlan) -> Iterator[BatchPlan]:
        """`plan` and all that follow it, over the ends of epochs: what decoding runs ahead with."""
        epoch, position = plan.epoch, plan.step_start
        while True:
            yield from self.batches(epoch, position)
            epoch, position = epoch + 1, 0
