"""Training metrics: summed on the device, fetched at log steps alone, with the wait for data timed apart."""

import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from common.errors import UserError
from engine.runtime.world import World
from engine.training.step import StepOutput
from pipeline.batch import Batch

Item = TypeVar("Item")
Sums = dict[str, float]
# So many steps in a row that cannot be taken end a run. In fp16 each of them halves the scale of the loss, of 2 ** 16.
MOST_IN_A_ROW = {"fp32": 3, "bf16": 3, "fp16": 30}


class Meter:
    """Sums over the window since the last log, the epoch and the run: plain numbers, to be saved as they are."""

    def __init__(self, world: World, clip_ids: Sequence[str], precision: str = "fp32") -> None:
        self.window: Sums = {}
        self.epoch: Sums = {}
        self.run: Sums = {}
        self.not_taken: list[dict[str, Any]] = []  # one record per step, until somebody takes them away
        self.in_a_row = 0  # steps not taken, up to the last one
        self._most_in_a_row = MOST_IN_A_ROW[precision]
        self._world = world
        self._clip_ids = clip_ids
        self._names: list[str] = []
        self._pending: list[tuple[Tensor, Tensor]] = []  # per step: its row of measures, the positions of its clips
        self._mark = 0.0  # up to when the time has been added

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Hand out `batches`, adding the time that each one was waited for."""
        self._mark = time.perf_counter()
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()  # before next(): the wait is what happens inside it
            batch = next(iterator, None)
            if batch is None:
                return
            self._add({"wait": time.perf_counter() - asked})
            yield batch

    def add(self, measured: StepOutput, batch: Batch) -> None:
        """Take note of a step on `batch` without waiting for it."""
        size = len(batch.labels)
        row = [*(loss.detach() * size for loss in measured.losses.values()), measured.correct, measured.grad_norm]
        self._names = list(measured.losses)
        num_clips = torch.full((1,), size, dtype=torch.float64, device=measured.correct.device)
        self._pending.append((torch.cat([torch.stack([value.double() for value in row]), num_clips]), batch.clips))

    def flush(self, epoch: int, step: int) -> bool:
        """Wait for the device and add the pending steps, the last of which is `step`, up over all ranks.

        Returns whether there were any, which is the same on all ranks.

        Raises:
            UserError: too many steps in a row could not be taken; the message names the last one and its clips.
        """
        if not self._pending:
            return False
        # The one place of the loop that waits for the device.
        rows = self._world.sum(torch.stack([row for row, _ in self._pending])).tolist()
        for number, (row, (_, clips)) in enumerate(zip(rows, self._pending, strict=True), start=step - len(rows) + 1):
            self._add_step(row, clips, epoch, number)
        self._pending.clear()
        now = time.perf_counter()
        self._add({"seconds": now - self._mark})
        self._mark = now
        return True

    def _add_step(self, row: Sequence[float], clips: Tensor, epoch: int, step: int) -> None:
        *losses, correct, grad_norm, num_clips = row
        norm = grad_norm / self._world.size  # the same on all ranks
        terms = {f"loss/{name}": loss for name, loss in zip(self._names, losses, strict=True)}
        record = {"loss": sum(losses), **terms, "correct": correct, "grad_norm": norm, "clips": num_clips, "steps": 1.0}
        taken = math.isfinite(norm)
        if not taken or not math.isfinite(record["loss"]):
            names = [self._clip_ids[clip] for clip in self._world.gather(clips).tolist()]
            values = [f"{name} {loss / num_clips:g}" for name, loss in zip(self._names, losses, strict=True)]
            self._note_not_finite(f"{', '.join(values)}, norm of the gradient {norm:g}", taken, epoch, step, names)
            record = {**dict.fromkeys(record, 0.0), "not_taken": num_clips}
        else:
            self.in_a_row = 0
        self._add(record)

    def _note_not_finite(self, values: str, taken: bool, epoch: int, step: int, clips: Sequence[str]) -> None:
        what = "loss" if taken else "gradient"
        text = f"epoch {epoch}, step {step}: the {what} is not finite ({values}) for the clips {', '.join(clips)}"
        self.in_a_row += 1
        if taken or self.in_a_row == self._most_in_a_row:
            repeated = "" if taken else f"; {self.in_a_row} steps in a row could not be taken"
            raise UserError(
                f"{text}{repeated}; lower train.lr, in a run that starts from this one's best.pt (train.init_from), or "
                "look at these clips with python -m pipeline.inspect"
            )
        warnings.warn(f"{text}; the step is not taken", stacklevel=1)
        self.not_taken.append({"epoch": epoch, "step": step, "values": values, "clips": clips})

    def start_epoch(self) -> None:
        """Forget the epoch before."""
        self.window, self.epoch = {}, {}

    def start_window(self) -> None:
        """Forget what has been logged."""
        self.window = {}

    def state_dict(self) -> dict[str, Any]:
        """Return all that `flush` has added so far; call that first."""
        sums = {"window": dict(self.window), "epoch": dict(self.epoch), "run": dict(self.run)}
        return {**sums, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.window, self.epoch, self.run = (dict(state[name]) for name in ("window", "epoch", "run"))
        self.in_a_row = state["in_a_row"]

    def _add(self, measures: Sums) -> None:
        for sums in (self.window, self.epoch, self.run):
            for name, value in measures.items():
                sums[name] = sums.get(name, 0.0) + value


def means(sums: Sums) -> dict[str, float]:
    """Turn a meter's sums into what is logged: means over clips, a rate, and the part of the time spent waiting.

    Steps that were not taken count for the rate alone; where no other was, the means are NaN.
    """
    clips, seconds = sums["clips"] or math.nan, max(sums["seconds"], 1e-9)
    record: dict[str, float] = {key: value / clips for key, value in sums.items() if key.startswith("loss")}
    record["accuracy"] = sums["correct"] / clips
    record["grad_norm"] = sums["grad_norm"] / (sums["steps"] or math.nan)
    record["clips_per_s"] = (sums["clips"] + sums.get("not_taken", 0.0)) / seconds
    record["data_wait"] = sums["wait"] / seconds
    return record


def describe(record: Mapping[str, float], clips_left: int | None = None) -> str:
    """Put a log record into words: loss, accuracy, clips/s, data wait, and the time that `clips_left` will take."""
    rate = record["clips_per_s"]
    text = f"loss {record['loss']:.4f}  accuracy {record['accuracy']:.3f}  {rate:.1f} clips/s"
    text += f"  data wait {record['data_wait']:.1%}"
    return text if clips_left is None else f"{text}  {timedelta(seconds=round(clips_left / rate))} left"
