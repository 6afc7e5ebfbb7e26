"""Disks that are full, read-only or gone, under every command that writes: `python -m chaos.disk --sizes 12`.

Mounts file systems of a few hundred kilobytes in memory, so it has to be run as root.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import eval as evaluation
import train
from chaos.child import Child, import_all
from chaos.pack import command as pack_command
from chaos.pack import contents, make_tree
from chaos.tally import Tally, fault_parser
from engine.scoring import reports as reporting
from engine.step import TrainStep
from pipeline.inspect import __main__ as inspect
from pipeline.profile import __main__ as profile
from preprocess import pack, workers
from preprocess.packing import pack_split as job
from tests.runs import CONFIG, SMALL, difference, make_data

Work = Callable[[], int]
EARLIER = b"what an earlier command had written"
ROOM = 64 * 2**20
PAGE = 4096  # bytes that the smallest file takes
MESSAGE = "exit code 1, one message, nothing half-written, what was there before untouched; the same command goes on"


@dataclass(frozen=True)
class Command:
    """A command that writes below a folder.

    Attributes:
        work: the command, writing into a folder.
        files: what it writes there; these stand there from an earlier time.
        again: the same command after a failure, where that is another one.
        is_right: whether what it has written in the end is what it should be.
        vanish: install in a child what makes the folder vanish in the middle of the work.
    """

    name: str
    work: Callable[[Path], Work]
    files: tuple[str, ...]
    again: Callable[[Path], Work]
    is_right: Callable[[Path], bool]
    vanish: Callable[[Path], None]


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


def run(work: Work, log: Path) -> tuple[int, str]:
    """Run in a process of its own: the exit code, and all that was said."""
    child = Child.start(work, log)
    return child.wait(), child.output()


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
            tally.note(f"{command.name}: a full disk", wrong or MESSAGE, not wrong)


def read_only(command: Command, out: Path, tally: Tally) -> None:
    """A disk that may not be written to."""
    with mounted(out, ROOM):
        place_earlier(command, out)
        remount(out, "ro")
        wrong = complaint(command, out, *run(command.work(out), out.parent / "run.log"))
        remount(out, "rw")
        wrong = wrong or try_again(command, out)
        tally.note(f"{command.name}: a read-only folder", wrong or MESSAGE, not wrong)


def vanished(command: Command, out: Path, tally: Tally) -> None:
    """A folder that somebody removes in the middle of the work."""
    out.mkdir(exist_ok=True)
    target = out / "inside"
    target.mkdir()
    place_earlier(command, target)

    def work() -> int:
        command.vanish(target)
        return command.work(target)()

    code, said = run(work, out / "run.log")
    wrong = complaint(command, out, code, said, gone=True)
    tally.note(f"{command.name}: its folder vanishes", wrong or "exit code 1, one message, nothing left", not wrong)
    shutil.rmtree(out)


def before(owner: Any, name: str, action: Callable[[], None], call: int = 1) -> None:
    """Let `action` happen before the call-th call of a function."""
    real, calls = getattr(owner, name), 0

    def replaced(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            action()
        return real(*arguments, **keywords)

    setattr(owner, name, replaced)


def remover(folder: Path) -> Callable[[], None]:
    """Remove a folder with all that is in it."""
    return lambda: shutil.rmtree(folder)


def commands(folder: Path) -> Iterator[tuple[Command, int]]:
    """Every command that writes, and the bytes that it needs."""
    yield _packing(folder)
    data = make_data(folder)
    yield _training(folder, data)
    yield from _reading(folder, data)


def _packing(folder: Path) -> tuple[Command, int]:
    tree = make_tree(folder / "tree")
    workers.SMALL_JOB_BYTES = 2**40  # in this process

    def work(out: Path) -> Work:
        return lambda: pack.main([*pack_command(tree, out)[2:], "--quiet"])

    assert run(work(folder / "packed"), folder / "run.log")[0] == 0
    whole = contents(folder / "packed" / "train")

    def is_right(out: Path) -> bool:
        return contents(out / "train") == whole

    def vanish(out: Path) -> None:
        before(job, "write_shard", remover(out / "train"), 3)

    return Command("packing", work, (), work, is_right, vanish), sum(map(len, whole.values()))


def _training(folder: Path, data: Sequence[str]) -> tuple[Command, int]:
    def arguments(out: Path) -> list[str]:
        return ["-c", str(CONFIG), *data, *SMALL, "train.checkpoint_every=2", f"runs={out}", "--quiet"]

    def work(out: Path) -> Work:
        return lambda: train.main(arguments(out))

    def again(out: Path) -> Work:
        begun = (out / "xnorm" / "config.yaml").exists()
        return lambda: train.main([*arguments(out), *(["--resume"] if begun else [])])

    assert run(work(folder / "runs"), folder / "run.log")[0] == 0
    whole = folder / "runs" / "xnorm"
    need = sum(path.stat().st_size for path in whole.rglob("*")) + (whole / "last.pt").stat().st_size

    def vanish(out: Path) -> None:
        before(TrainStep, "step", remover(out / "xnorm"), 4)

    return Command("training", work, (), again, lambda out: difference(whole, out / "xnorm") is None, vanish), need


def _reading(folder: Path, data: Sequence[str]) -> Iterator[tuple[Command, int]]:
    common, best = ["-c", str(CONFIG), *data, *SMALL, "--quiet"], folder / "runs" / "xnorm" / "best.pt"

    def scoring(out: Path) -> Work:
        return lambda: evaluation.main([*common, "--checkpoint", str(best), "--export", "epic", "-o", str(out)])

    def comparing(out: Path) -> Work:
        return lambda: evaluation.main(["--compare", str(best.parent), "-o", str(out), "--quiet"])

    def profiling(out: Path) -> Work:
        files = ["--json", str(out / "profile.json"), "--plot", str(out / "profile.png")]
        return lambda: profile.main([*common, *files, "--rounds", "1", "--batches", "1"])

    def inspecting(out: Path) -> Work:
        return lambda: inspect.main([*common, "-o", str(out / "sheet.png")])

    reports = ("metrics.json", "predictions.csv", "per_class.csv", "confusion.csv", "confusion.png")
    kinds: tuple[tuple[str, Callable[[Path], Work], tuple[str, ...], Any, str], ...] = (
        ("evaluation", scoring, reports, reporting, "draw_confusion"),
        ("comparison", comparing, tuple(f"comparison.{ending}" for ending in ("md", "csv", "png", "html")), None, ""),
        ("profile", profiling, ("profile.png",), profile, "show_loader"),
        ("inspection", inspecting, ("sheet.png",), inspect, "save_sheets"),
    )
    for name, work, files, owner, function in kinds:
        out = folder / name
        out.mkdir()
        assert run(work(out), folder / "run.log")[0] == 0, (folder / "run.log").read_text()

        def is_right(found: Path, names: tuple[str, ...] = files) -> bool:
            return all((found / name).read_bytes() not in (b"", EARLIER) for name in names)

        def vanish(found: Path, owner: Any = owner, function: str = function) -> None:
            if owner is not None:
                before(owner, function, remover(found))

        need = sum(-(-path.stat().st_size // PAGE) * PAGE for path in out.iterdir())
        yield Command(name, work, files, work, is_right, vanish), need


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
            if command.name != "comparison":
                vanished(command, out, tally)
    return tally.finish("disk", arguments.write)


if __name__ == "__main__":
    sys.exit(main())
