"""The packing job of docs/scaling.md: scheduler, workers and packer in one batch job, with a stand-in for srun."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import pack_split
from tests.docs.markdown import ROOT
from tests.trees import Video

DOCUMENT = (ROOT / "docs/scaling.md").read_text("utf-8")
SCRIPTS = re.findall(r"^```bash\n(#!/bin/bash\n#SBATCH.*?)^```", DOCUMENT, re.M | re.S)
CLIPS = tuple((1 + n % 21, 20 + n % 21, n % 3) for n in range(60))


@pytest.mark.slow
def test_the_job_writes_the_bytes_of_a_local_run_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (script,) = (script for script in SCRIPTS if "dask scheduler" in script)
    (tmp_path / "job.sh").write_text(script)
    for name, body in (("srun", 'exec "$@"'), ("hostname", "echo 127.0.0.1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    sizes = ("data.preset=none", "data.shard_mib=1", "data.check=header")
    whole = pack_split(tmp_path, [Video("P01_01", height=128, width=160, clips=CLIPS)], *sizes)
    shards = tmp_path / "by_job"
    paths = (f"data.frames={tmp_path / 'frames'}", f"data.shards={shards}")
    annotations = f"data.annotations={{train: [{tmp_path / 'train.csv'}]}}"
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "SLURM_CPUS_PER_TASK": "2", "TMPDIR": str(tmp_path)}
    for name in ("configs", "preprocess"):  # the job's folder is where it was queued
        (tmp_path / "queued").mkdir(exist_ok=True)
        (tmp_path / "queued" / name).symlink_to(ROOT / name)
    done = subprocess.run(
        ["bash", str(tmp_path / "job.sh"), *sizes, *paths, annotations],
        cwd=tmp_path / "queued",
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "cluster tcp://127.0.0.1:" in done.stdout
    found = {path.name: path.read_bytes() for path in (shards / "train").iterdir()}
    assert len(found) > 10
    assert found == {path.name: path.read_bytes() for path in whole.iterdir()}
    assert sorted(path.name for path in (tmp_path / "queued").iterdir()) == ["configs", "preprocess"]
