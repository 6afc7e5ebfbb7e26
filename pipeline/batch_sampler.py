"""Batch sampler of one rank: the batches of epoch after epoch, and a position in two integers."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from pipeline.sampler import BatchPlan, balanced_order, epoch_batches, epoch_order


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
