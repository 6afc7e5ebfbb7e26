"""Two ranks: a training by torchrun, whose ranks compare their weights themselves."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.gpu_check.base import ROOT, Check, Row, Setup

RANKS = 2
SHORT = ("train.epochs=1", "train.log_every=1", "train.tensorboard=false")


def run(setup: Setup) -> Iterator[Row]:
    """A row: how it ended, and its speed."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={RANKS}"]
    overrides = [*setup.overrides, f"runs={setup.folder}", "name=ranks", *SHORT]
    command = [*launcher, "train.py", "-c", "configs/xnorm.yaml", *overrides, f"train.device={setup.device.type}"]
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"torchrun ended with {done.returncode}: {done.stdout.strip()[-1000:]}")
    lines = (setup.folder / "ranks" / "metrics.jsonl").read_text().splitlines()
    loss = next(entry["loss"] for entry in map(json.loads, reversed(lines)) if entry["kind"] == "train")
    yield {"ranks": RANKS, "backend": "nccl" if setup.device.type == "cuda" else "gloo", "loss": loss, "s": seconds}


CHECK = Check("ranks", "two processes", run, gpus=RANKS)
