"""Training in half precision beside fp32: the same steps from the same weights, and where the losses end."""

import math
from collections.abc import Iterator
from statistics import fmean

import torch

from benchmarks.gpu_check.base import Check, Row, Setup

BATCHES = 4  # that are learned by heart
APART = 0.1  # of the first loss, by which the last ones may differ


def losses(setup: Setup, precision: str) -> list[float]:
    """The loss of each step."""
    model = setup.model()
    stepper = setup.stepper(model, precision)
    stepper.train_mode()
    batches = [setup.batch(model, number) for number in range(BATCHES)]
    found = []
    for number in range(setup.learning_steps):
        terms = stepper.step(batches[number % BATCHES], number).losses
        found.append(torch.stack([term.float() for term in terms.values()]).sum())
    return torch.stack(found).tolist()


def run(setup: Setup) -> Iterator[Row]:
    """A row per precision: the first loss, and the mean of the last tenth."""
    exact = 0.0
    for precision in ("fp32", "bf16") if setup.device.type == "cpu" else ("fp32", "bf16", "fp16"):
        found = losses(setup, precision)
        last = fmean(found[-max(1, len(found) // 10) :])
        exact = last if precision == "fp32" else exact
        yield {
            "precision": precision,
            "steps": len(found),
            "first loss": found[0],
            "last tenth": last,
            "ok": all(map(math.isfinite, found)) and last - exact <= APART * found[0],
        }


CHECK = Check("amp", "training in half precision beside fp32", run)
