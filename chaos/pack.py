"""Packing that is killed at random moments: `python -m chaos.pack --kills 20`."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from chaos.tally import ROOT, Tally, fault_parser
from pipeline.format.index import INDEX_NAME
from tests.trees import Video, write_annotations, write_video

SAME = "the bytes of every file equal those of an uninterrupted run"
KILLED, KILLED_AGAIN, WORKER, TERMINATED = (
    "`kill -9` of the command, then the same command",
    "`kill -9`, again and again into the same folder, until a run ends by itself",
    "`kill -9` of one of its processes, then the same command",
    "SIGTERM, then the same command",
)
KINDS = {  # the signal, and whether it is sent to one of the processes alone
    KILLED: (signal.SIGKILL, False),
    WORKER: (signal.SIGKILL, True),
    TERMINATED: (signal.SIGTERM, False),
}


def make_tree(folder: Path) -> Path:
    """A hundred overlapping clips of one video, 12 MiB: enough for processes and for a dozen shards."""
    clips = tuple((1 + n % 21, 20 + n % 21, n % 3) for n in range(100))
    video = Video("P01_01", height=128, width=160, clips=clips)
    write_video(folder / "frames", video)
    write_annotations(folder / "train.csv", [video])
    (folder / "config.yaml").write_text("name: test\n")
    return folder


def command(tree: Path, shards: Path) -> list[str]:
    """Pack the tree into `shards` with two processes."""
    return [
        *(sys.executable, str(ROOT / "preprocess" / "pack.py"), "-c", str(tree / "config.yaml"), "data.preset=none"),
        *(f"data.frames={tree / 'frames'}", f"data.shards={shards}", "data.workers=2", "data.shard_mib=1"),
        "data.check=header",
        f"data.annotations={{train: [{tree / 'train.csv'}]}}",
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a split."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@dataclass(frozen=True)
class Packing:
    """The tree, what an uninterrupted run makes of it, and how long that takes."""

    tree: Path
    whole: dict[str, bytes]
    seconds: float

    @classmethod
    def of(cls, tree: Path) -> "Packing":
        """Pack without an interruption."""
        begin = time.monotonic()
        subprocess.run(command(tree, tree / "whole"), cwd="/", capture_output=True, check=True)
        seconds = time.monotonic() - begin
        return cls(tree, contents(tree / "whole" / "train"), seconds)

    def start(self, shards: Path) -> subprocess.Popen[str]:
        """Begin to pack into `shards`, as in the foreground: what a shell runs in the background ignores Ctrl-C."""
        pipe, heed = subprocess.PIPE, partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(command(self.tree, shards), stdout=pipe, stderr=pipe, text=True, preexec_fn=heed)

    def interrupt(self, shards: Path, part: float, number: int, one_process: bool = False) -> tuple[int, str]:
        """Start, send a signal once this part of the shards is there (0 to 1); the exit code and what stderr said."""
        process = self.start(shards)
        due = map(str, range(int(part * len(self.whole) / 2), 99))
        enough = {"all", *due}
        while process.poll() is None and self.finished(shards) not in enough:
            time.sleep(0.002)
        time.sleep(part * len(self.whole) / 2 % 1 * self.seconds / len(self.whole))
        targets = [process.pid]
        if one_process and process.poll() is None:
            targets = children(process.pid)[-1:]
        for target in targets:
            with suppress(ProcessLookupError):  # it has ended in between
                os.kill(target, number)
        _, error = process.communicate(timeout=120)
        return process.returncode, error

    def finished(self, shards: Path) -> str:
        """How far a killed run came."""
        if (shards / "train" / INDEX_NAME).exists():
            return "all"
        return str(len(list(shards.glob("train/*.part.npz"))))

    def difference(self, shards: Path) -> str | None:
        """Run the same command to its end, and compare every byte of every file; what is not as it must be."""
        done = subprocess.run(command(self.tree, shards), capture_output=True, text=True, check=False)
        if done.returncode:
            return f"then exit code {done.returncode}: {done.stderr}"
        found = contents(shards / "train")
        return ", ".join(name for name in {**found, **self.whole} if found.get(name) != self.whole.get(name)) or None


def try_kind(packing: Packing, fault: str, kills: int, random: np.random.Generator, tally: Tally) -> None:
    """Interrupt so many runs, each in a folder of its own, and run the same command again."""
    number, one_process = KINDS[fault]
    found = []
    for trial in range(kills):
        shards = packing.tree / f"{number}{one_process}{trial}"
        code, error = packing.interrupt(shards, float(random.uniform(0, 1)), number, one_process)
        found.append(packing.finished(shards))
        wrong = packing.difference(shards)
        if code > 0 and "\n" in error.strip():
            wrong = f"more than one message: {error}"
        tally.note(fault, SAME, wrong)
    tally.remark(fault, _spread(found))


def kill_again(packing: Packing, most: int, random: np.random.Generator, tally: Tally) -> None:
    """Kill one run after the other in the same folder, each a little later than the one before."""
    shards, kills, code = packing.tree / "again", 0, -signal.SIGKILL
    while kills < most and code != 0:
        done = packing.finished(shards)
        part = 1.0 if done == "all" else 2 * int(done) / len(packing.whole) + float(random.uniform(0, 0.2))
        code, _ = packing.interrupt(shards, part, signal.SIGKILL)
        kills += code != 0
    wrong = packing.difference(shards)
    tally.note(KILLED_AGAIN, SAME, wrong)
    tally.remark(KILLED_AGAIN, f"{kills} kills")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trials and print the table."""
    parser = fault_parser("pack", "Kill packing at random moments; every file must end with the same bytes.")
    parser.add_argument("--kills", type=int, default=20, help="trials of each kind (default: %(default)s)")
    arguments = parser.parse_args(argv)
    random = np.random.default_rng(arguments.seed)
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        packing = Packing.of(make_tree(Path(name)))
        for fault in KINDS:
            try_kind(packing, fault, arguments.kills, random, tally)
        kill_again(packing, arguments.kills, random, tally)
    return tally.finish("pack", arguments.write)


def _spread(found: Sequence[str]) -> str:
    ordered = sorted(found, key=lambda state: (len(state), state))  # "all" comes last
    return f"finished shards at that moment: {ordered[0]} to {ordered[-1]}"


if __name__ == "__main__":
    sys.exit(main())
