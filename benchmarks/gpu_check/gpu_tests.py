"""The tests that are marked `gpu`, which skip by themselves elsewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.gpu_check.base import ROOT, Check, Row, Setup


def run(_: Setup) -> Iterator[Row]:
    """A row: how many passed and failed."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    yield {"passed": counts.get("passed", 0), "failed": ", ".join(failed), "ok": done.returncode == 0}


CHECK = Check("gpu_tests", "pytest -m gpu", run, gpus=1)
