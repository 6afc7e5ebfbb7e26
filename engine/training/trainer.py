"""Training loop: epochs, validation, early stopping, and the state to resume from bit for bit."""

import time
import warnings
from dataclasses import asdict
from functools import partial

import torch

from common.errors import UserError
from configs.schema import Config
from engine.runs.checkpoint import State
from engine.runs.provenance import describe_data
from engine.runs.records import is_over
from engine.runs.run_folder import RunFolder
from engine.runtime.session import InterruptionError, RunContext
from engine.scoring.evaluation import Evaluation, evaluate
from engine.scoring.plots import draw_clips, draw_confusion
from engine.scoring.reports import summarize
from engine.scoring.subsets import find_subsets
from engine.training.meter import Meter, describe, means
from engine.training.optimisation import LearningRate
from engine.training.progress import Monitor, TrainProgress
from engine.training.short_training import ShortTraining
from engine.training.step import TrainStep, derive_seed
from models.fusion import FusionModel
from pipeline.batch import Batch
from pipeline.loader import ClipLoader


class Trainer:
    """Trains a model that is on its device already, and keeps the run's folder."""

    def __init__(
        self,
        config: Config,
        model: FusionModel,
        train_loader: ClipLoader,
        val_loader: ClipLoader,
        session: RunContext,
        run: RunFolder,
    ) -> None:
        self.config, self.settings = config, config.train
        self.model, self.train_loader, self.val_loader = model, train_loader, val_loader
        self.session, self.run = session, run
        self.stepper = TrainStep(model, model.losses, config.train, config.seed, session.placement, session.world)
        self.learning_rate = LearningRate(self.stepper.optimizer, config.train, len(train_loader))
        self.meter = Meter(session.world, train_loader.clip_ids, session.placement.precision)
        self.monitor, self.counters = Monitor(config.train.monitor), TrainProgress()
        self.started = time.perf_counter()
        self.has_shown = False  # how it goes
        session.placement.reset_peak_memory()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the last ones brought nothing better."""
        return is_over(self.counters.epoch, self.counters.improved_epoch, self.settings.model_dump())

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, all its parts together."""
        return self.counters.seconds + time.perf_counter() - self.started

    @property
    def peak_memory(self) -> int:
        """The most bytes that this process has held, in all parts of the run."""
        return max(self.counters.peak_memory, self.session.placement.peak_memory())

    def train(self) -> None:
        """Train and validate until finished.

        Raises:
            InterruptionError: a signal came; last.pt holds this very step.
            UserError: the loss is not finite, or the disk or the data failed.
        """
        while not self.finished:
            if self.train_loader.epoch == self.counters.epoch:  # else it was stopped while it validated
                self.train_epoch()
            self.end_epoch(self.validate())
        counters = self.counters
        if counters.epoch < self.settings.epochs:
            self.session.display.print(
                f"stopped early after epoch {counters.epoch}: {self.settings.stop_patience} epochs "
                f"(train.stop_patience) brought no val {self.monitor.name} {self.monitor.better} "
                f"{self.best_value:.3f}, of epoch {counters.improved_epoch}"
            )

    def train_epoch(self) -> None:
        """Train on the clips of this epoch that are left."""
        counters = self.counters
        if counters.batches == 0:
            self.meter.start_epoch()
            self.prepare()
        self.session.display.begin(self.title(counters.epoch + 1), len(self.train_loader), counters.batches)
        self.stepper.train_mode()
        for batch in self.meter.timed(self.train_loader):
            batch = batch.to(self.session.placement.device)
            self.learning_rate.set(counters.step)
            self.meter.add(self.stepper.step(batch, counters.step), batch)
            counters.step += 1
            counters.batches += 1
            if counters.step % self.settings.log_every == 0:
                self.log(batch)
            elif not self.has_shown:
                self.show_first()
            if counters.step % self.settings.checkpoint_every == 0:
                self.save()
            self.session.display.advance()
            self.stop_if_asked()
        self.flush()

    def prepare(self) -> None:
        """Let the method do what it needs done before an epoch, once; what it finds out is saved right away."""
        counters = self.counters
        if counters.prepared > counters.epoch:
            return
        # The same on all ranks, and whatever happened before: a run that is stopped in here does it all anew.
        torch.manual_seed(derive_seed(self.config.seed, counters.epoch, 0, 1))
        try:
            numbers = self.model.prepare(ShortTraining(counters.epoch, self.config, self.session, self.train_loader))
        except InterruptionError:
            self.save()
            raise
        counters.prepared = counters.epoch + 1
        if numbers:
            self.run.log("prepare", {"epoch": counters.epoch + 1, "step": counters.step, **numbers})
            self.save()

    def validate(self) -> Evaluation:
        """Score the validation split with the weights as they are."""
        try:
            return self.score(self.val_loader, "val")
        except InterruptionError:
            self.save()  # the resumed run validates anew
            raise

    def score(self, loader: ClipLoader, split: str) -> Evaluation:
        """Score the clips of `loader`, which are those of `split`, with the weights as they are.

        Raises:
            InterruptionError: a signal came on the way.
        """
        self.session.world.broadcast_buffers(self.model)
        subsets = find_subsets(self.config.data, split) if self.model.targets.has_actions else None
        return evaluate(self.model, loader, self.session, {"val": "validation"}.get(split, split), subsets)

    def end_epoch(self, validation: Evaluation) -> None:
        """Draw the conclusions of a validation: the best weights, the log, the learning rate, last.pt."""
        counters, numbers = self.counters, summarize(validation)
        score = self.monitor.score(numbers)
        is_best = counters.end_epoch(score, numbers)
        train, where = means(self.meter.epoch), {"epoch": counters.epoch, "step": counters.step}
        self.run.log("epoch", {**where, **self.state_of_run(), **train})
        self.run.log("val", {**where, **numbers})
        for name, one in (validation.targets or {"": validation}).items():
            if one.metrics is not None:
                draw = partial(draw_confusion, one.metrics, names=one.classes)
                self.run.show(f"val/confusion{name and f'_{name}'}", draw, counters.step)
        self.learning_rate.end_epoch(score)
        self.save()
        if is_best:  # after last.pt, from which check_best() can make it anew
            self.save_best()
        value, best = self.monitor.value(score), " (best)" if is_best else ""
        text = f"{self.title(counters.epoch)}  {describe(train)}  val {self.monitor.name} {value:.3f}{best}"
        self.session.display.print(text)

    @property
    def best_value(self) -> float:
        """The best value of what train.monitor names."""
        return self.monitor.value(self.counters.best_score)

    def log(self, batch: Batch) -> None:
        """Write down the steps since the last log, of which `batch` was the last; the device is waited for here."""
        self.flush()
        record, counters = means(self.meter.window), self.counters
        self.meter.start_window()
        where = {"epoch": counters.epoch + 1, "step": counters.step}
        self.run.log("train", {**where, **self.state_of_run(), **record})
        if counters.step == self.settings.log_every:  # the run's first one
            self.run.show("train/clips", partial(draw_clips, self.train_loader, batch), counters.step)
        self.session.display.update(describe(record, self.clips_left))
        self.has_shown = True

    def show_first(self) -> None:
        """Say how the first step went, however far off the first log is; the device is waited for here."""
        self.flush()
        where = f"{self.title(self.counters.epoch + 1)}  step {self.counters.step}"
        self.session.display.print(f"{where}  {describe(means(self.meter.window), self.clips_left)}")
        self.has_shown = True

    @property
    def clips_left(self) -> int:
        """How many clips are to be trained on, over all ranks, if it does not stop early."""
        steps = self.settings.epochs * len(self.train_loader) - self.counters.step
        return steps * self.config.loader.batch_size

    def state_of_run(self) -> dict[str, float]:
        """Return what is logged beside what the steps measured."""
        return {"lr": self.learning_rate.rate(self.counters.step), "peak_memory_mib": self.peak_memory / 2**20}

    def flush(self) -> None:
        """Bring the sums up to date, and say what was left out on the way; the device is waited for here."""
        try:
            is_new = self.meter.flush(self.counters.epoch + 1, self.counters.step)
        finally:
            for record in self.meter.not_taken:
                self.run.log("not_taken", record)
            self.meter.not_taken.clear()
        if is_new:
            self.note_skipped()

    def note_skipped(self) -> None:
        """Say which corrupt clips have been left out since the last time, on any rank, and count them for the run."""
        loader, world, counters = self.train_loader, self.session.world, self.counters
        if not world.any_rank(bool(loader.skipped)):
            return
        positions = torch.tensor([loader.clip_ids.index(clip_id) for clip_id in loader.skipped], dtype=torch.int64)
        loader.skipped.clear()
        times = world.sum(positions.bincount(minlength=len(loader.clip_ids)).to(self.session.placement.device)).tolist()
        found = {clip_id: count for clip_id, count in zip(loader.clip_ids, times, strict=True) if count}
        counters.add_skipped(found)
        self.run.log("skipped", {"epoch": counters.epoch + 1, "step": counters.step, "clips": found})
        self.session.display.print(f"warning: corrupt, others were trained on instead: {', '.join(found)}")

    def save(self) -> None:
        """Write last.pt."""
        self.flush()
        self.run.save_last(self.state_dict())

    def save_best(self) -> None:
        """Write best.pt, of the epoch that has just been validated."""
        counters = self.counters
        about = {"epoch": counters.best_epoch, "top1": counters.best["top1"], "data": self.describe_data()}
        self.run.save_best({"model": self.model.state_dict(), **about})

    def check_best(self, found: int) -> None:
        """Hold best.pt, which is of epoch `found` (0: missing or damaged), to what a resumed run's counters say.

        Raises:
            UserError: it is of another epoch, and none is left to find a better one.
        """
        counters = self.counters
        if found == counters.best_epoch or not counters.best_epoch:
            return
        if counters.best_epoch == counters.epoch and counters.batches == 0:  # killed between last.pt and best.pt
            self.save_best()
            return
        what = f"is of epoch {found}" if found else "cannot be read"
        text = f"{self.run.best}: {what}, but the best epoch was {counters.best_epoch}"
        if self.finished:
            raise UserError(f"{text}, and none is left to train; put that file back, or raise train.epochs")
        warnings.warn(f"{text}, whose weights are lost; the best of the epochs to come is kept instead", stacklevel=1)
        counters.forget_best()

    def stop_if_asked(self) -> None:
        """Save, and leave by an InterruptionError, when a rank has had a signal."""
        if self.session.world.any_rank(bool(self.session.stop)):
            self.save()
            raise InterruptionError(self.session.stop.number)

    def describe_data(self) -> State:
        """Return what checkpoints say of the training data."""
        return describe_data(self.train_loader, self.model.targets.actions)

    def title(self, epoch: int) -> str:
        """Name an epoch, from 1, for people."""
        return f"epoch {epoch}/{self.settings.epochs}"

    def state_dict(self) -> State:
        """Return all that the rest of the run depends on."""
        return {
            "model": self.model.state_dict(),
            "stepper": self.stepper.state_dict(),
            "learning_rate": self.learning_rate.state_dict(),
            "loader": self.train_loader.state_dict(),
            "data": self.describe_data(),
            "meter": self.meter.state_dict(),
            "counters": asdict(self.counters) | {"seconds": self.seconds, "peak_memory": self.peak_memory},
        }

    def load_state_dict(self, state: State) -> None:
        """Go on where `state` was taken.

        Raises:
            UserError: the shards hold other clips than then.
        """
        self.train_loader.load_state_dict(state["loader"])
        self.model.load_state_dict(state["model"])
        self.stepper.load_state_dict(state["stepper"])
        self.learning_rate.load_state_dict(state["learning_rate"])
        self.meter.load_state_dict(state["meter"])
        self.counters = TrainProgress(**state["counters"])
