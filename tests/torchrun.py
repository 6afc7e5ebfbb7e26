"""Modules on several ranks; of train.py a rank can have a signal in the middle, and all can compute in fp64."""

import json
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import train
from chaos.child import LATE
from engine.runtime import world as distributed
from engine.runtime.device import Placement
from engine.training.step import TrainStep
from models import fusion
from models.trunks.i3d import I3D
from tests.sync_batchnorm import synchronize_on_cpus

ROOT = Path(__file__).parents[1]
TIMEOUT = 200.0  # seconds
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
    printed, _ = job.communicate(timeout=TIMEOUT)
    print(printed)  # for a test that fails
    return [*printed.splitlines(), str(job.returncode)]


def forked(module: str, *arguments: str, ranks: int, **environment: str) -> tuple[list[str], list[int]]:
    """Run a module on several ranks that no torchrun watches; return what it printed, and their exit codes.

    The ranks are forked from a process that has imported train.py before, and have the stages that I3D has here. The
    code of one that was killed is minus the signal.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train", *LATE])
    with socket.create_server(("127.0.0.1", 0)) as free:
        shared = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "TORCHELASTIC_RESTART_COUNT": "0"}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), **environment}
    with tempfile.NamedTemporaryFile("r") as output:
        processes = []
        for rank in map(str, range(ranks)):
            given = (module, arguments, shared | {"RANK": rank, "LOCAL_RANK": rank}, output.name, I3D.stages)
            processes.append(context.Process(target=_run_as_rank, args=given))
            processes[-1].start()
        for process in processes:
            process.join(TIMEOUT)
            process.kill()
            process.join()
        printed = output.read()
    print(printed)  # for a test that fails
    return printed.splitlines(), [process.exitcode or 0 for process in processes]


def _run_as_rank(
    module: str, arguments: Sequence[str], environment: dict[str, str], output: str, stages: tuple[str, ...]
) -> None:
    """What a forked process does: run the module as if it had been started so."""
    os.chdir(ROOT)
    os.environ.update(environment)
    for descriptor in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), descriptor)
    sys.argv, I3D.stages = [module, *arguments], stages
    runpy.run_module(module, run_name="__main__", alter_sys=True)


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
