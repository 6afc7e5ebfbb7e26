"""Disks that are full, read-only or gone, under every command that writes: `python -m chaos.disk --sizes 12`.

Mounts file systems of a few hundred kilobytes in memory, so it has to be run as root.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from chaos.child import import_all
from chaos.commands import EARLIER, PAGE, Command, commands, run
from chaos.tally import Tally, fault_parser

ROOM = 64 * 2**20
MESSAGE = "exit code 1, one message, nothing half-written, what was there before untouched; the same command goes on"


@contextmanager
def mounted(folder: Path, num_bytes: int) -> Iterator[None]:
    """A file system of so many bytes."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted file system."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def complaint(command: Command, out: Path, code: int, said: str, gone: bool = False) -> str | None:
    """What is wrong with how a command failed."""
    lines = said.strip().splitlines()
    if code != 1 or len(lines) != 1 or not lines[0].startswith("error: "):
        return f"exit code {code}: {said[-800:]}"
    if scratch := [str(path.relative_to(out)) for path in out.rglob(".*.tmp")]:
        return f"leaves {scratch}"
    changed = [name for name in command.files if not gone and (out / name).read_bytes() != EARLIER]
    return f"changed {changed}" if changed else None


def try_again(command: Command, out: Path) -> str | None:
    """Run the command where it can write; what is wrong with what comes of it."""
    code, said = run(command.again(out), out.parent / "again.log")
    if code:
        return f"then exit code {code}: {said[-800:]}"
    return None if command.is_right(out) else "then other results"


def place_earlier(command: Command, out: Path) -> None:
    """Put down what the command wrote at another time."""
    for name in command.files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(EARLIER)


def full(command: Command, out: Path, sizes: Sequence[int], tally: Tally) -> None:
    """A disk that gets full, sooner or later."""
    for size in sizes:
        with mounted(out, size):
            place_earlier(command, out)
            code, said = run(command.work(out), out.parent / "run.log")
            if code == 0:
                tally.note(f"{command.name}: a full disk", "there was room enough")
                continue
            wrong = complaint(command, out, code, said)
            remount(out, f"size={ROOM}")
            wrong = wrong or try_again(command, out)
            tally.note(f"{command.name}: a full disk", MESSAGE, wrong)


def read_only(command: Command, out: Path, tally: Tally) -> None:
    """A disk that may not be written to."""
    with mounted(out, ROOM):
        place_earlier(command, out)
        remount(out, "ro")
        wrong = complaint(command, out, *run(command.work(out), out.parent / "run.log"))
        remount(out, "rw")
        wrong = wrong or try_again(command, out)
        tally.note(f"{command.name}: a read-only folder", MESSAGE, wrong)


def vanished(command: Command, out: Path, tally: Tally) -> None:
    """A folder that somebody removes in the middle of the work."""
    vanish = command.vanish
    if vanish is None:
        return
    out.mkdir(exist_ok=True)
    target = out / "inside"
    target.mkdir()
    place_earlier(command, target)

    def work() -> int:
        vanish(target)
        return command.work(target)()

    code, said = run(work, out / "run.log")
    wrong = complaint(command, out, code, said, gone=True)
    tally.note(f"{command.name}: its folder vanishes", "exit code 1, one message, nothing left", wrong)
    shutil.rmtree(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trials and print the table."""
    parser = fault_parser("disk", "Let every command that writes meet a full, a read-only and a vanishing disk.")
    parser.add_argument("--sizes", type=int, default=12, help="sizes of the full disk (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if os.geteuid() != 0:
        print("error: only root may mount file systems", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    import_all()
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        for command, need in commands(Path(name)):
            out = Path(name, "disk")
            least = PAGE * (len(command.files) + 2)  # what was there before, the folder, and something
            sizes = np.linspace(least, least + need, arguments.sizes + 1)[:-1].astype(int)
            full(command, out, [int(size) for size in sizes], tally)
            read_only(command, out, tally)
            vanished(command, out, tally)
    return tally.finish("disk", arguments.write)


if __name__ == "__main__":
    sys.exit(main())
