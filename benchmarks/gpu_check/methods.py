"""Compute alone: clips per second that each method trains, and the most memory that it takes."""

from collections.abc import Iterator

from benchmarks.gpu_check.base import Check, Row, Setup
from engine.runtime.device import Placement
from models import FUSIONS


def run(setup: Setup) -> Iterator[Row]:
    """A row per method, on a batch that lies on the device."""
    for method in FUSIONS:
        yield {"method": method, "precision": setup.half, **measure(setup, method)}


def measure(setup: Setup, method: str) -> Row:
    """What training steps of a method take; nothing of it is left when this returns."""
    placement = Placement(setup.device)
    placement.reset_peak_memory()
    model = setup.model(method)
    stepper, batch = setup.stepper(model, setup.half), setup.batch(model)
    stepper.train_mode()
    seconds = setup.seconds(lambda number: stepper.step(batch, number))
    speed = {"ms per step": 1e3 * seconds, "clips/s": len(batch.labels) / seconds}
    return {**speed, "peak memory MiB": placement.peak_memory() / 2**20}


CHECK = Check("methods", "compute-only training, batches on the device", run)
