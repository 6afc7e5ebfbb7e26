"""Packing that machines share, some of which die: `python -m chaos.sharing --kills 5`."""

import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from chaos.pack import contents, make_tree
from chaos.tally import ROOT, Tally, fault_parser
from tests.preprocess.cluster import Cluster, cluster

SAME = "every file byte for byte that of a run on one machine"


class Packing:
    """pack.py on one tree into new folders, and what it ought to write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        make_tree(folder)
        self.whole: dict[str, bytes] = {}
        done = self.run("whole")
        assert done.returncode == 0, done.stderr
        self.whole = contents(folder / "whole" / "train")

    def new(self) -> str:
        """A folder's name."""
        self.count += 1
        return f"trial{self.count}"

    def command(self, shards: str, *more: str) -> list[str]:
        """The command line that packs into the folder `shards`."""
        sizes = ("data.preset=none", "data.shard_mib=1", "data.workers=1")
        annotations = f"data.annotations={{train: [{self.folder / 'train.csv'}]}}"
        paths = (f"data.frames={self.folder / 'frames'}", f"data.shards={self.folder / shards}", annotations)
        config = str(self.folder / "config.yaml")
        return [sys.executable, "preprocess/pack.py", "-c", config, *sizes, *paths, *more]

    def run(self, shards: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        return subprocess.run(self.command(shards, *more), cwd=ROOT, capture_output=True, text=True, timeout=120)

    def compare(self, shards: str) -> tuple[str, bool]:
        """What was written, beside what one machine writes, and whether that is right."""
        found = contents(self.folder / shards / "train")
        shutil.rmtree(self.folder / shards)
        return (SAME, True) if found == self.whole else ("other files", False)

    def cluster(self, *deaths: int) -> AbstractContextManager[Cluster]:
        """A cluster with its logs in a folder of their own."""
        logs = self.folder / f"logs{self.count}"
        logs.mkdir()
        return cluster(logs, deaths)


def worker_dies(packing: Packing, random: np.random.Generator, tally: Tally) -> None:
    """One of two workers is killed at a random clip."""
    shards = packing.new()
    with packing.cluster(int(random.integers(1, 40)), 0) as found:
        done = packing.run(shards, "--scheduler", found.address)
        died = found.workers[0].poll() == -9
    fault = "`--scheduler`: `kill -9` of one of two workers at a random clip"
    tally.note(fault, *(packing.compare(shards) if done.returncode == 0 and died else (done.stderr[-400:], False)))


def scheduler_dies(packing: Packing, tally: Tally) -> None:
    """The scheduler is killed while shards are written, and the same command runs on another cluster."""
    shards = packing.new()
    with packing.cluster(0, 0) as found:
        said = _kill_in_the_middle(packing, shards, found)
    good = "the cluster's scheduler is gone" in said and "Traceback" not in said
    fault = "`--scheduler`: `kill -9` of the scheduler"
    tally.note(fault, "one message, exit code 1" if good else said[-400:], good)
    packing.count += 1
    with packing.cluster(0, 0) as found:
        done = packing.run(shards, "--scheduler", found.address)
    outcome = packing.compare(shards) if done.returncode == 0 else (done.stderr[-400:], False)
    tally.note("and the same command on another cluster", *outcome)


def _kill_in_the_middle(packing: Packing, shards: str, found: Cluster) -> str:
    """Pack, kill the scheduler once the first shard is there, and return what was said of it."""
    process = subprocess.Popen(
        packing.command(shards, "--scheduler", found.address), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(packing.folder.glob(f"{shards}/train/*.part.npz")):
        time.sleep(0.01)
    found.scheduler.kill()
    _, said = process.communicate(timeout=120)
    return said


def main() -> int:
    """Run all of it; the exit code says whether everything ended as it must."""
    parser = fault_parser("sharing", "Let machines that pack together die.")
    parser.add_argument("--kills", type=int, default=5, help="of each sort (default: %(default)s)")
    arguments = parser.parse_args()
    random, tally = np.random.default_rng(arguments.seed), Tally()
    with tempfile.TemporaryDirectory() as folder:
        packing = Packing(Path(folder))
        for _ in range(arguments.kills):
            worker_dies(packing, random, tally)
        scheduler_dies(packing, tally)
    return tally.finish("sharing", arguments.write)


if __name__ == "__main__":
    sys.exit(main())
