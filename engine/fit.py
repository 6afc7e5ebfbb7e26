"""The loop as it is lent to a method, for the short trainings that it needs before an epoch."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.errors import UserError
from configs.schema import Config
from engine.holdout import Parts, Positions, hold_out
from engine.interrupt import InterruptionError
from engine.loaders import open_loader
from engine.meter import Meter, describe, means
from engine.session import Session
from engine.step import Stepper
from models.fusion import FitResult, FusionModel, FusionOutput
from pipeline.loader import ClipLoader

Loss = Callable[[FusionOutput, Tensor], Tensor]


@dataclass
class ShortTraining:
    """Implements models.fusion.Fit for the epoch about to start, counted from 0.

    Loaders and optimizer are its own, so the run's stay as they are. The clips follow from the config's seed: all
    trainings of a run with the same shares learn from the same clips and are measured on the same ones.
    """

    epoch: int
    config: Config
    session: Session
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
        parts = hold_out(videos, self.split.labels, subset=subset, holdout=holdout, seed=self.config.seed)
        self._check_size(parts)
        before = [self._mean_loss(model, loss, clips, "loss before") for clips in parts]
        self._train(model, loss, parts.train, epochs)
        after = [self._mean_loss(model, loss, clips, "loss after") for clips in parts]
        return FitResult(before[0], after[0], before[1], after[1])

    def _train(self, model: FusionModel, loss: Loss, clips: Positions, epochs: int) -> None:
        """Train on `clips` (positions in the split), with a new optimizer."""
        config, session = self.config, self.session
        stepper = Stepper(
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
                    if session.world.any(bool(session.stop)):
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
                    value = loss(model(batch.rgb, batch.flow), batch.labels).double()
                sums += torch.stack([value, torch.ones_like(value)]) * len(batch.labels)
                self.session.display.advance()
                self.session.display.update()
                self.session.leave_if_asked()
        total, num_clips = world.sum(sums).tolist()
        assert num_clips == len(clips)
        if not math.isfinite(total):
            raise UserError(f"{self._title(what)}: the mean over {len(clips)} clips is not finite; lower train.lr")
        return float(total / num_clips)

    def _open(self, model: FusionModel, clips: Positions, train: bool) -> AbstractContextManager[ClipLoader]:
        return open_loader(self.config, "train", model, self.session, train=train, clips=clips.tolist())

    def _check_size(self, parts: Parts) -> None:
        step = self.config.loader.batch_size
        if len(parts.train) < step:
            raise UserError(
                f"{self._title('start')}: the {len(parts.train)} clips that are not held out do not fill one step of "
                f"{step}; use more of the clips (a larger subset), or lower loader.batch_size"
            )

    def _title(self, what: str) -> str:
        return f"before epoch {self.epoch + 1}, short training {self.num_trainings}, {what}"
