"""The cores of a process, by hand-written control groups, and what a command tells OpenMP before torch is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.cores import usable_cores

ROOT = Path(__file__).parents[2]
ALLOWED = len(os.sched_getaffinity(0))
COMMAND = """
from common.startup import begin
begin()
import os, sys
assert "torch" not in sys.modules
print(os.environ["OMP_WAIT_POLICY"], os.environ.get("OMP_NUM_THREADS"))
"""


def groups(folder: Path, lines: str, files: dict[str, str]) -> int:
    """The cores where /proc/self/cgroup has `lines` and the control groups hold `files`."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "own").write_text(lines)
    return usable_cores(folder, folder / "own")


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, ALLOWED),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/job/step\n", {"job/cpu.max": "150000 100000\n", "job/step/cpu.max": "max 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),  # a fifth of a core is one thread
        ("3:cpuacct,cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, ALLOWED),
        (
            "3:cpuacct,cpu:/job\n",
            {"cpuacct,cpu/job/cpu.cfs_quota_us": "100000\n", "cpuacct,cpu/job/cpu.cfs_period_us": "100000\n"},
            1,
        ),
        ("5:cpuset:/\n", {"cpu.max": "100000 100000\n"}, ALLOWED),  # of a group that is not ours
        ("nonsense\n", {}, ALLOWED),
        ("0::/../../other\n", {}, ALLOWED),
    ],
)
def test_a_quota_restricts_the_cores(lines: str, files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert groups(tmp_path, lines, files) == cores


def test_the_affinity_restricts_the_cores() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); from common.cores import *"
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; print(usable_cores())"], cwd=ROOT, capture_output=True, check=True
    )
    assert shown.stdout == b"1\n"


@pytest.mark.parametrize(
    ("given", "printed"),
    [({}, "PASSIVE None"), ({"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "3"}, "active 3")],
)
def test_threads_wait_passively_unless_the_environment_says_otherwise(given: dict[str, str], printed: str) -> None:
    free = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    shown = subprocess.run([sys.executable, "-c", COMMAND], cwd=ROOT, env=free | given, capture_output=True, check=True)
    assert shown.stdout.decode().strip() == (
        printed if usable_cores() == ALLOWED or given else f"PASSIVE {usable_cores()}"
    )
