"""Packing that machines share, some of which die: `python -m chaos.sharing --kills 5`."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from chaos.pack import Packing, command, contents, make_tree
from chaos.tally import Tally, fault_parser
from tests.preprocess.cluster import Cluster, cluster

SAME = "every file byte for byte that of a run on one machine"


def start(packing: Packing, found: Cluster, folder: Path) -> subprocess.Popen[str]:
    """Begin to pack into `folder` on a cluster."""
    packed = [*command(packing.tree, folder / "shards"), "--scheduler", found.address]
    return subprocess.Popen(packed, stderr=subprocess.PIPE, text=True)


def difference(packing: Packing, process: subprocess.Popen[str], folder: Path) -> str | None:
    """What a run has written otherwise than one machine does."""
    _, said = process.communicate(timeout=120)
    if process.returncode:
        return said[-400:]
    return None if contents(folder / "shards" / "train") == packing.whole else "other files"


def worker_dies(packing: Packing, folder: Path, random: np.random.Generator, tally: Tally) -> None:
    """One of two workers is killed at a random clip."""
    with cluster(folder, (int(random.integers(1, 40)), 0)) as found:
        wrong = difference(packing, start(packing, found, folder), folder)
        if found.workers[0].poll() != -signal.SIGKILL:
            wrong = "the worker did not get that far"
    tally.note("`--scheduler`: `kill -9` of one of two workers at a random clip", SAME, wrong)


def scheduler_dies(packing: Packing, folder: Path, tally: Tally) -> None:
    """The scheduler is killed once a shard is there, and the same command runs on another cluster."""
    with cluster(folder, (0, 0)) as found:
        process = start(packing, found, folder)
        while process.poll() is None and not list(folder.glob("shards/train/*.part.npz")):
            time.sleep(0.01)
        found.scheduler.kill()
        _, said = process.communicate(timeout=120)
    good = "the cluster's scheduler is gone" in said and "Traceback" not in said
    fault = "`--scheduler`: `kill -9` of the scheduler"
    tally.note(fault, "one message, exit code 1", None if good else said[-400:])
    (folder / "another").mkdir()
    with cluster(folder / "another", (0, 0)) as found:
        wrong = difference(packing, start(packing, found, folder), folder)
    tally.note("and the same command on another cluster", SAME, wrong)


def main() -> int:
    """Run all of it; the exit code says whether everything ended as it must."""
    parser = fault_parser("sharing", "Let machines that pack together die.")
    parser.add_argument("--kills", type=int, default=5, help="of each sort (default: %(default)s)")
    arguments = parser.parse_args()
    random, tally = np.random.default_rng(arguments.seed), Tally()
    with tempfile.TemporaryDirectory() as name:
        packing = Packing.of(make_tree(Path(name)))
        for _ in range(arguments.kills):
            worker_dies(packing, Path(tempfile.mkdtemp(dir=name)), random, tally)
        scheduler_dies(packing, Path(tempfile.mkdtemp(dir=name)), tally)
    return tally.finish("sharing", arguments.write)


if __name__ == "__main__":
    sys.exit(main())
