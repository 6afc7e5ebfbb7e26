"""train.py as torchrun starts it; a rank can be made to have a signal in the middle, and all to compute in fp64."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import train
from engine.runtime import world as distributed
from engine.runtime.device import Placement
from engine.training.step import TrainStep
from models import fusion
from tests.sync_batchnorm import synchronize_on_cpus

ROOT = Path(__file__).parents[1]
LAUNCHER = (sys.executable, "-m", "torch.distributed.run")
Job = subprocess.Popen[str]
SIGNAL = "TEST_SIGNAL"  # environment variable: rank:step:signal, sent to itself by a rank of the first attempt
SIGNALLED = "signal at "  # printed, with the time in seconds, before it is sent
OTHER_RANK = "TEST_OTHER_RANK"  # environment variable: overrides that the first rank has not, as JSON
DOUBLE = "TEST_DOUBLE"  # environment variable: set where fp64 is wanted


def start(module: str, *arguments: str, ranks: int, options: Sequence[str] = (), **environment: str) -> Job:
    """Start a module on several ranks of this machine; stdout and stderr go to one pipe."""
    return subprocess.Popen(
        [*LAUNCHER, f"--nproc_per_node={ranks}", *options, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def torchrun(module: str, *arguments: str, ranks: int, options: Sequence[str] = (), **environment: str) -> list[str]:
    """Run a module on several ranks of this machine; return what it printed, and last its exit code."""
    job = start(module, *arguments, ranks=ranks, options=["--standalone", *options], **environment)
    printed, _ = job.communicate(timeout=200)
    print(printed)  # for a test that fails
    return [*printed.splitlines(), str(job.returncode)]


def compute_in_double(patch: pytest.MonkeyPatch) -> None:
    """Let train.py compute in fp64: what differs then does not differ by rounding."""
    real = fusion.to_unit_range

    def to_unit_range(clip: Tensor | None, stream: str) -> Tensor:
        return real(clip, stream).double()

    patch.setattr(fusion, "to_unit_range", to_unit_range)
    patch.setattr(Placement, "move", lambda self, model: model.double())


def signal_after(step: int, number: int) -> None:
    """Let this process say when it is, and have a signal, once it has taken so many steps; -15 is for its torchrun."""
    real = TrainStep.step

    def call(self: TrainStep, batch: Any, position: int) -> Any:
        measured = real(self, batch, position)
        if position + 1 == step:
            print(f"{SIGNALLED}{time.time()}", flush=True)
            os.kill(os.getpid() if number > 0 else os.getppid(), abs(number))
        return measured

    TrainStep.step = call  # type: ignore[method-assign]


if __name__ == "__main__":
    distributed.synchronize = synchronize_on_cpus
    if DOUBLE in os.environ:
        compute_in_double(pytest.MonkeyPatch())
    rank, step, number = os.environ.get(SIGNAL, "0:0:0").split(":")
    if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == (rank, "0"):
        signal_after(int(step), int(number))
    more = json.loads(os.environ.get(OTHER_RANK, "[]")) if os.environ["RANK"] != "0" else []
    sys.exit(train.main([*sys.argv[1:], *more]))
