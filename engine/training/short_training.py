"""Short side trainings for methods that need them (Gradient-Blending), on clips that are split by video."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from configs.schema import Config
from engine.loaders import open_loader
from engine.runtime.session import InterruptionError, RunContext
from engine.training.meter import Meter, describe, means
from engine.training.step import TrainStep
from models.fusion import FitResult, FusionModel, FusionOutput
from pipeline.loader import ClipLoader

Positions = NDArray[np.int64]
_SUBSET, _HOLDOUT = 3, 4  # what a random stream is for; the sampler has 1 and 2


class HoldoutSplit(NamedTuple):
    """Positions in a split, ascending."""

    train: Positions
    holdout: Positions


def split_by_video(
    videos: Sequence[bytes], labels: NDArray[np.int64], *, subset: float, holdout: float, seed: int
) -> HoldoutSplit:
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
    return HoldoutSplit(clips[~held_out[video]], clips[held_out[video]])


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


Loss = Callable[[FusionOutput, Tensor], Tensor]


@dataclass
class ShortTraining:
    """Implements models.fusion.Fit for the epoch about to start, counted from 0.

    Loaders and optimizer are its own, so the run's stay as they are. The clips follow from the config's seed: all
    trainings of a run with the same shares learn from the same clips and are measured on the same ones.
    """

    epoch: int
    config: Config
    session: RunContext
    split: ClipLoader  # the run's own loader of the training split; asked for its clips alone
    num_trainings: int = 0

    def __call__(self, model: FusionModel, loss: Loss, *, epochs: int, subset: float, holdout: float) -> FitResult:
        """Train `model` in place; see models.fusion.Fit.

        Raises:
            UserError: too few clips or videos, or a loss that is not finite.
            InterruptionError: a signal came.
        """
        self.num_trainings += 1
        videos = self.split.table.video_id.tolist()
        parts = split_by_video(videos, self.split.labels, subset=subset, holdout=holdout, seed=self.config.seed)
        self._check_size(parts)
        before = [self._mean_loss(model, loss, clips, "loss before") for clips in parts]
        self._train(model, loss, parts.train, epochs)
        after = [self._mean_loss(model, loss, clips, "loss after") for clips in parts]
        return FitResult(before[0], after[0], before[1], after[1])

    def _train(self, model: FusionModel, loss: Loss, clips: Positions, epochs: int) -> None:
        """Train on `clips` (positions in the split), with a new optimizer."""
        config, session = self.config, self.session
        stepper = TrainStep(
            model,
            lambda output, labels: {"short": loss(output, labels)},
            config.train,
            config.seed,
            session.placement,
            session.world,
            all_used=False,  # the loss may be that of one head of several
        )
        step = 0
        with self._open(model, clips, train=True) as loader:
            meter = Meter(session.world, loader.clip_ids, session.placement.precision)
            for epoch in range(1, epochs + 1):
                session.display.begin(self._title(f"epoch {epoch}/{epochs}"), len(loader))
                stepper.train_mode()
                for batch in meter.timed(loader):
                    batch = batch.to(session.placement.device)
                    meter.add(stepper.step(batch, step), batch)
                    step += 1
                    if step % config.train.log_every == 0:
                        meter.flush(epoch, step)
                        session.display.update(describe(means(meter.run)))
                    session.display.advance()
                    if session.world.any_rank(bool(session.stop)):
                        raise InterruptionError(session.stop.number)
                meter.flush(epoch, step)

    def _mean_loss(self, model: FusionModel, loss: Loss, clips: Positions, what: str) -> float:
        """Return the mean of `loss` over `clips`, in eval mode on eval transforms, each clip once over all ranks."""
        world, device = self.session.world, self.session.placement.device
        world.broadcast_buffers(model)
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=device)  # of the loss, of the clips
        with self._open(model, clips, train=False) as loader, torch.inference_mode():
            self.session.display.begin(self._title(what), len(loader))
            for batch in loader:
                batch = batch.to(device)
                with self.session.placement.autocast():
                    labels = model.targets.labels(batch.labels, batch.targets)
                    value = loss(model(batch.rgb, batch.flow), labels).double()
                sums += torch.stack([value, torch.ones_like(value)]) * len(batch.labels)
                self.session.display.advance()
                self.session.display.update()
                self.session.raise_if_interrupted()
        total, num_clips = world.sum(sums).tolist()
        assert num_clips == len(clips)
        if not math.isfinite(total):
            raise UserError(f"{self._title(what)}: the mean over {len(clips)} clips is not finite; lower train.lr")
        return float(total / num_clips)

    def _open(self, model: FusionModel, clips: Positions, train: bool) -> AbstractContextManager[ClipLoader]:
        return open_loader(self.config, "train", model, self.session, train=train, clips=clips.tolist())

    def _check_size(self, parts: HoldoutSplit) -> None:
        step = self.config.loader.batch_size
        if len(parts.train) < step:
            raise UserError(
                f"{self._title('start')}: the {len(parts.train)} clips that are not held out do not fill one step of "
                f"{step}; use more of the clips (a larger subset), or lower loader.batch_size"
            )

    def _title(self, what: str) -> str:
        return f"before epoch {self.epoch + 1}, short training {self.num_trainings}, {what}"
