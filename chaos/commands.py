"""Every command that writes, in a process of its own: what it writes, whether that is right, how it is interrupted."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import eval as evaluation
import train
from chaos.child import Child
from chaos.pack import command as pack_command
from chaos.pack import contents, make_tree
from engine.scoring import reports as reporting
from engine.training.step import TrainStep
from pipeline.inspect import __main__ as inspect
from pipeline.profile import __main__ as profile
from preprocess import pack, workers
from preprocess.packing import pack_split as job
from tests.runs import CONFIG, SMALL, difference, make_data

Work = Callable[[], int]
EARLIER = b"what an earlier command had written"
PAGE = 4096  # bytes that the smallest file takes


@dataclass(frozen=True)
class Command:
    """A command that writes below a folder.

    Attributes:
        work: the command, writing into a folder.
        files: what it writes there; these stand there from an earlier time.
        again: the same command after a failure, where that is another one.
        is_right: whether what it has written in the end is what it should be.
        vanish: install in a child what makes the folder vanish in the middle of the work; None: too short for that.
    """

    name: str
    work: Callable[[Path], Work]
    files: tuple[str, ...]
    again: Callable[[Path], Work]
    is_right: Callable[[Path], bool]
    vanish: Callable[[Path], None] | None


def run(work: Work, log: Path) -> tuple[int, str]:
    """Run in a process of its own: the exit code, and all that was said."""
    child = Child.start(work, log)
    return child.wait(), child.output()


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
            before(owner, function, remover(found))

        need = sum(-(-path.stat().st_size // PAGE) * PAGE for path in out.iterdir())
        yield Command(name, work, files, work, is_right, vanish if owner else None), need
