"""train.py as torchrun starts it; a rank can be made to die in the middle, and all can be made to compute in fp64."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor

import train
from engine.device import Placement
from models import fusion
from tests.estimating import die_after

ROOT = Path(__file__).parents[1]
DIE_AT = "TEST_RANK_1_DIES_AFTER"  # environment variable: the step after which the second rank kills itself, once
DOUBLE = "TEST_DOUBLE"  # environment variable: set where fp64 is wanted


def torchrun(module: str, *arguments: str, ranks: int, options: Sequence[str] = (), **environment: str) -> list[str]:
    """Run a module on several ranks of this machine; return what it printed, stderr too, and last its exit code."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", *options]
    done = subprocess.run(
        [*launcher, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    print(done.stdout)  # for a test that fails
    return [*done.stdout.splitlines(), str(done.returncode)]


def compute_in_double(patch: pytest.MonkeyPatch) -> None:
    """Let train.py compute in fp64: what differs then does not differ by rounding."""
    real = fusion.to_unit_range

    def to_unit_range(clip: Tensor | None, stream: str) -> Tensor:
        return real(clip, stream).double()

    patch.setattr(fusion, "to_unit_range", to_unit_range)
    patch.setattr(Placement, "place", lambda self, model: model.double())


if __name__ == "__main__":
    if DOUBLE in os.environ:
        compute_in_double(pytest.MonkeyPatch())
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        die_after(int(os.environ.get(DIE_AT, 0)))
    sys.exit(train.main())
