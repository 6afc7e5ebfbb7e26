"""The whole road in one command: write small two-stream data sets, pack them, train methods, compare them."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.table import Table

from common.cli import command_parser
from common.cores import usable_cores
from common.display import Display
from common.errors import exit_code_of
from configs import Config, ConfigError, UserError, load_config
from configs.methods import METHODS, unknown_fusion
from configs.schema import SPLITS
from engine.runs.comparison.report import show_comparison
from engine.runs.comparison.rows import Row, compare
from preprocess import pack, synth

ROOT = Path(__file__).parent
CONFIGS = ROOT / "configs"
ADJUSTABLE = ("clip.", "loader.", "model.", "train.")
VARIANTS = {  # beside the methods, or in the place of one
    "xnorm-unsynchronized": ("model.fusion=xnorm", "clip.synchronized=false"),
    "distill": ("model.fusion=distill", "model.teacher={runs}/xnorm-seed{seed}"),
}
AT_ONCE = 4  # trainings at most: each takes 1 to 2 GB
Range = tuple[float, float]
ENSEMBLE = "rgb + flow"  # the row that a comparison makes of the two
SINGLE: Range = (0.0, 0.6)
ANYTHING: Range = (0.0, 1.0)


@dataclass(frozen=True)
class Demo:
    """What is trained on one task, and the accuracies between which it must come out, or the demo has failed.

    Attributes:
        config: of the task's data and a small training.
        paths: overrides of the config that name other folders and classes than its own.
        methods: those trained unless asked otherwise, what takes longest first.
        expected: by method.
        others: of every method that `expected` does not name.
    """

    config: Path
    methods: tuple[str, ...]
    expected: Mapping[str, Range]
    others: Range
    paths: tuple[str, ...] = ()

    def load(self, overrides: Sequence[str] = ()) -> Config:
        """The configuration of the task, with `overrides` of its training."""
        return load_config(self.config, [*self.paths, *overrides])

    def expects(self, method: str) -> Range:
        """The lowest and the highest accuracy that `method` may have."""
        return self.expected.get(method, self.others)


def _paths(root: str) -> tuple[str, ...]:
    splits = ", ".join(f"{split}: [{root}/data/annotations/{split}.csv]" for split in SPLITS)
    return (
        f"data.frames={root}/data",
        f"data.shards={root}/shards",
        f"data.annotations={{{splits}}}",
        f"runs={root}/runs",
    )


DEMOS = {
    "additive": Demo(
        CONFIGS / "demo.yaml",
        methods=("xnorm", "rgb", "flow"),
        expected={**dict.fromkeys(("rgb", "flow", "distill"), SINGLE), ENSEMBLE: ANYTHING},
        others=(0.9, 1.0),
    ),
    "xor": Demo(
        CONFIGS / "demo-binding.yaml",
        methods=("xnorm", "late"),
        expected={
            **dict.fromkeys(("rgb", "flow", "distill"), SINGLE),
            **dict.fromkeys(("late", ENSEMBLE), (0.0, 0.75)),
            "xnorm": (0.95, 1.0),
        },
        others=ANYTHING,
        paths=(*_paths("demo/xor"), "model.num_classes=2"),
    ),
    # Additive scores cannot bind (chance is 25 %); of pooled methods at this budget nothing is promised.
    "binding": Demo(
        CONFIGS / "demo-binding.yaml",
        methods=("xnorm", "late", "rgb", "flow"),
        expected={**dict.fromkeys(("rgb", "flow", "distill", "late", ENSEMBLE), (0.0, 0.45)), "xnorm": (0.9, 1.0)},
        others=ANYTHING,
    ),
}

DESCRIPTION = "Write small two-stream data sets, pack them, train methods on them, compare them."
EXAMPLES = """\
python demo.py
python demo.py --tasks binding --methods xnorm xnorm-unsynchronized
python demo.py --tasks additive --methods late xnorm --set train.lr=3.0e-4 train.epochs=14
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; exit code 1 when it does not show what it should."""
    parser = command_parser("demo.py", DESCRIPTION, EXAMPLES)
    usual = ("additive", "binding")
    parser.add_argument("--tasks", nargs="+", default=usual, choices=DEMOS, help="what a fusion must be able to do")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="names, or all (default: a few of each task's)")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,), metavar="SEED", help="trains once with each")
    overrides = "config keys to replace in training (default: none)"
    parser.add_argument("--set", nargs="+", default=(), metavar="key=value", dest="overrides", help=overrides)
    arguments = parser.parse_args(argv)
    return exit_code_of(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    begin, display, tasks, overrides = time.monotonic(), Display(arguments.quiet), arguments.tasks, arguments.overrides
    silence = ["--quiet"] if arguments.quiet else []
    methods = [*{**METHODS, **VARIANTS}] if arguments.methods == ["all"] else arguments.methods
    for method in methods or ():
        if method not in METHODS and method not in VARIANTS:
            raise ConfigError(f"--methods: {unknown_fusion(method)}")
    for override in overrides:  # where the runs are must stay as it is: they are removed first
        if not override.startswith(ADJUSTABLE):
            raise ConfigError(f"--set: found {override!r}, allowed: keys that begin with {', '.join(ADJUSTABLE)}")
    chosen = {task: methods or DEMOS[task].methods for task in tasks}
    for task in tasks:  # refused now rather than after the data is written
        DEMOS[task].load(overrides)
    for task in tasks:
        _prepare(task, silence)
    for taught in (False, True):  # a teacher before whom it teaches
        _train(
            {
                f"{task} {method}-seed{seed}": [*_command(task, method, seed, overrides), *silence]
                for task in tasks
                for method in chosen[task]
                for seed in arguments.seeds
                if (method == "distill") is taught
            }
        )
    good = [_show(task, chosen[task], display) for task in tasks]
    display.print(f"{time.monotonic() - begin:.0f} s in all")
    return 0 if all(good) else 1


def _prepare(task: str, silence: Sequence[str]) -> None:
    """Write and pack the data of one task; the runs of the demo before go: it is there to be seen training."""
    demo = DEMOS[task]
    config = demo.load()
    shutil.rmtree(config.runs, ignore_errors=True)
    _must(synth.main(["--task", task, "-o", str(config.data.frames), *silence]), "writing the data")
    _must(pack.main(["-c", str(demo.config), *silence, *demo.paths]), "packing")


def _show(task: str, methods: Sequence[str], display: Display) -> bool:
    """Compare what was trained on one task; whether all methods came out as they must."""
    config = DEMOS[task].load()
    comparison = compare([config.runs])
    show_comparison(comparison, config.runs, display, with_tables=tuple(methods) != DEMOS[task].methods)
    display.table(_verdicts(task, config, comparison.rows))
    return all(is_as_expected(task, row) for row in comparison.rows)


def is_as_expected(task: str, row: Row) -> bool:
    """Whether each run of a method stays below what it cannot know, and finds what it must."""
    low, high = DEMOS[task].expects(row.name)
    return all(low <= accuracy <= high for accuracy in row.accuracies("top1"))


def _command(task: str, method: str, seed: int, overrides: Sequence[str]) -> list[str]:
    """The command that trains `method` on `task`; what makes it this method stands after `overrides`, and holds."""
    demo = DEMOS[task]
    runs = demo.load().runs
    variant = [part.format(runs=runs, seed=seed) for part in VARIANTS.get(method, (f"model.fusion={method}",))]
    settings = [*demo.paths, *overrides, *variant, f"name={method}", f"seeds=[{seed}]"]
    return [sys.executable, str(ROOT / "train.py"), "-c", str(demo.config), *settings]


def _train(commands: Mapping[str, Sequence[str]]) -> None:
    """Run trainings side by side, each in a process of its own; its lines begin with its title.

    As small as these networks are, one core trains them as fast as two, so that each training has its own.
    """
    at_once = min(usable_cores(), AT_ONCE)
    environment = {**os.environ, "OMP_NUM_THREADS": str(usable_cores() // at_once)}
    running: list[subprocess.Popen[str]] = []
    failed: list[tuple[int, str]] = []

    def train(title: str) -> None:
        if failed:
            return
        pipe, merged = subprocess.PIPE, subprocess.STDOUT
        with subprocess.Popen(commands[title], env=environment, stdout=pipe, stderr=merged, text=True) as process:
            running.append(process)
            for line in process.stdout or ():
                print(f"{title}: {line}", end="", flush=True)
        if process.returncode:
            failed.append((process.returncode, f"training {title}"))
            for other in running:
                other.terminate()  # it saves what it has

    with ThreadPoolExecutor(at_once) as pool:
        try:
            list(pool.map(train, commands))
        except KeyboardInterrupt:  # which the other processes have had as well: they save, and end
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for exit_code, what in failed[:1]:
        _must(exit_code, what)


def _must(exit_code: int, what: str) -> None:
    if exit_code:
        raise UserError(f"the demo stops: {what} ended with exit code {exit_code}, see above")


def _verdicts(task: str, config: Config, rows: Sequence[Row]) -> Table:
    chance = 1 / config.model.num_classes
    table = Table(
        title=f"{task}: {config.model.num_classes} classes, chance {chance:.0%}, on clips that no training saw"
    )
    for column in ("method", "accuracy", "expected", "clips/s", "data wait", "time", ""):
        table.add_column(column, justify="left" if column in ("method", "") else "right")
    for row in rows:
        low, high = DEMOS[task].expects(row.name)
        table.add_row(
            row.name,
            f"{fmean(row.accuracies('top1')):.1%}",
            "" if (low, high) == ANYTHING else f"at least {low:.0%}" if low else f"at most {high:.0%}",
            f"{row.mean('clips_per_s'):.1f}",
            f"{row.mean('data_wait'):.1%}",
            f"{row.mean('wall_seconds'):.0f} s",
            "ok" if is_as_expected(task, row) else "WRONG",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
