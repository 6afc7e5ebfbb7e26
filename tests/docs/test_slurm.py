"""The job script of docs/scaling.md saves, requeues and goes on, with stand-ins for Slurm's commands."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train
from tests import runs
from tests.docs.markdown import ROOT

data, one_thread, undrawn = runs.data, runs.one_thread, runs.undrawn  # fixtures

SCRIPT = re.search(
    r"^```bash\n(#!/bin/bash\n#SBATCH.*?)^```", (ROOT / "docs/scaling.md").read_text("utf-8"), re.M | re.S
)
# Like srun, it kills its tasks at SIGTERM and hands SIGUSR1 on: here to the last one alone, which has to tell the rest.
SRUN = """
import os, signal, subprocess, sys
count = int(os.environ["SLURM_NTASKS"])
ids = [{"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)} for n in range(count)]
tasks = [subprocess.Popen(sys.argv[1:], env=os.environ | task) for task in ids]
signal.signal(signal.SIGTERM, lambda *_: [task.kill() for task in tasks])
signal.signal(signal.SIGUSR1, lambda *_: tasks[-1].send_signal(signal.SIGUSR1))
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """
import sys
if sys.argv[1:3] == ["show", "hostnames"]:
    print("localhost")
else:
    open("requeued", "a").write(" ".join(sys.argv[1:]) + "\\n")
"""
OPTIONS = (
    "model.freeze_trunk=true",
    "model.dropout=0.0",
    "train.log_every=1",
    "train.epochs=8",
    "train.stop_patience=8",
)


def curve(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]


def start(folder: Path, overrides: list[str]) -> subprocess.Popen[str]:
    """Start the script as Slurm would, with two tasks on this machine."""
    assert SCRIPT is not None
    (folder / "job.sh").write_text(SCRIPT[1])
    names = {"srun": SRUN, "scontrol": SCONTROL}
    for name, text in names.items():
        (folder / name).write_text(f"#!{sys.executable}\n{text}")
    (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for name in (*names, "python"):
        (folder / name).chmod(0o755)
    for name in ("train.py", "configs"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    slurm = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
    }
    environment = os.environ | slurm | {"PATH": f"{folder}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        ["bash", "job.sh", *overrides],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_the_job_script_saves_at_the_signal_requeues_and_goes_on_to_the_same_curve(
    data: list[str], tmp_path: Path
) -> None:
    assert SCRIPT is not None
    assert {"#SBATCH --signal=B:USR1@120", "#SBATCH --requeue"} < set(SCRIPT[1].splitlines())
    overrides = [*data, *runs.SMALL, *OPTIONS, f"runs={tmp_path / 'runs'}", "name=job"]
    job = start(tmp_path, overrides)
    metrics = tmp_path / "runs/job/metrics.jsonl"
    while job.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.01)
    job.send_signal(signal.SIGUSR1)
    printed, _ = job.communicate(timeout=200)
    assert f"stopped by a signal to another process; {tmp_path / 'runs/job/last.pt'} is saved" in printed
    assert (tmp_path / "requeued").read_text() == f"requeue {os.getpid()}\n"
    assert not (tmp_path / "runs/job/summary.json").exists()
    again = start(tmp_path, overrides)
    printed, _ = again.communicate(timeout=200)
    assert again.returncode == 0, printed
    assert train.main(["-c", str(ROOT / "configs/xnorm.yaml"), *overrides, "name=alone", "--quiet"]) == 0
    found, expected = curve(tmp_path / "runs/job"), curve(tmp_path / "runs/alone")
    assert [step for step, _ in found] == [step for step, _ in expected] == list(range(1, 25))
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=1e-5)
