"""Resuming bit for bit: steps taken in one go, again, and with a checkpoint in the middle."""

import io
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.gpu_check.base import Check, Row, Setup


def train(setup: Setup, resumed: bool = False) -> dict[str, Tensor]:
    """The weights after twice `setup.steps` steps; `resumed`: a new model goes on from a checkpoint of the middle."""
    model = setup.model()
    stepper = setup.stepper(model, setup.half)
    for number in range(2 * setup.steps):
        if resumed and number == setup.steps:
            file = io.BytesIO()
            torch.save({"model": model.state_dict(), "step": stepper.state_dict()}, file)
            file.seek(0)
            state = torch.load(file, map_location=setup.device, weights_only=True)
            model = setup.model()
            stepper = setup.stepper(model, setup.half)
            model.load_state_dict(state["model"])
            stepper.load_state_dict(state["step"])
        stepper.train_mode()
        stepper.step(setup.batch(model, number), number)
    return model.state_dict()


def run(setup: Setup) -> Iterator[Row]:
    """Rows of what was compared, with the algorithms that training takes, and with deterministic ones."""
    for algorithms in ("as trained", "deterministic"):
        deterministic = algorithms == "deterministic"
        with torch.backends.cudnn.flags(enabled=True, benchmark=not deterministic, deterministic=deterministic):
            first = train(setup)
            again = num_different(first, train(setup))
            resumed = num_different(first, train(setup, resumed=True))
        yield {
            "cuDNN's algorithms": algorithms,
            "tensors": len(first),
            "different when run again": again,
            "different when resumed": resumed,
            "ok": again > 0 or resumed == 0,  # resuming adds nothing to what the kernels leave open
        }


def num_different(one: dict[str, Tensor], other: dict[str, Tensor]) -> int:
    """How many of the tensors are not equal bit for bit."""
    return sum(not torch.equal(value, other[name]) for name, value in one.items())


CHECK = Check("resume", "resuming bit for bit", run)
