"""The whole road in one command: write a small two-stream data set, pack it, train methods on it, compare them."""

if __name__ == "__main__":
    from configs.startup import begin

    begin()

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from configs import ConfigError, UserError, load_config
from configs.command import command_parser
from configs.display import Display
from configs.errors import exit_code_of
from configs.methods import METHODS, unknown_fusion
from engine.comparison import Row, compare
from engine.comparison_report import comparison_table, write_comparison
from preprocess import pack, synth
from preprocess.scenes import TASKS

ROOT = Path(__file__).parent
CONFIG = ROOT / "configs" / "demo.yaml"
DEMO = ("rgb", "flow", "xnorm")
SINGLE = ("rgb", "flow")
ADJUSTABLE = ("clip.", "loader.", "model.", "train.")
SINGLE_AT_MOST, FUSION_AT_LEAST = 0.6, 0.9  # what must come out, or the demo has failed


DESCRIPTION = "Write a small two-stream data set, pack it, train methods on it, compare them."
EXAMPLES = """\
python demo.py
python demo.py --methods late xnorm --set train.lr=3.0e-4 train.epochs=14
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; exit code 1 when it does not show what it should."""
    parser = command_parser("demo.py", DESCRIPTION, EXAMPLES)
    parser.add_argument("--methods", nargs="+", default=DEMO, metavar="METHOD", help="names, or all")
    parser.add_argument(
        "--set",
        nargs="+",
        default=(),
        metavar="key=value",
        dest="overrides",
        help="config keys to replace in training (default: none)",
    )
    arguments = parser.parse_args(argv)
    methods = list(METHODS) if list(arguments.methods) == ["all"] else arguments.methods
    return exit_code_of(lambda: _run(methods, arguments.overrides, arguments.quiet))


def _run(methods: Sequence[str], overrides: Sequence[str], quiet: bool) -> int:
    begin = time.monotonic()
    for method in methods:
        if method not in METHODS:
            raise ConfigError(f"--methods: {unknown_fusion(method)}")
    for override in overrides:  # where the runs are must stay as it is: they are removed first
        if not override.startswith(ADJUSTABLE):
            raise ConfigError(f"--set: found {override!r}, allowed: keys that begin with {', '.join(ADJUSTABLE)}")
    load_config(CONFIG, overrides)  # refused now rather than after the data is written
    config = load_config(CONFIG)
    shutil.rmtree(config.runs, ignore_errors=True)  # of the demo before: it is there to be seen training
    silence = ["--quiet"] if quiet else []
    _must(synth.main(["-o", str(config.data.frames), *silence]), "writing the data")
    _must(pack.main(["-c", str(CONFIG), *silence]), "packing")
    for method in methods:
        _must(_train(method, [*silence, *overrides]), f"training {method}")
    comparison = compare(config.runs / method for method in methods)
    write_comparison(comparison, config.runs)
    display = Display(quiet)
    if tuple(methods) != DEMO:
        display.table(comparison_table(comparison))
    display.line(f"written to {config.runs}/comparison.md, .csv, .png")
    display.table(_verdicts(comparison.rows))
    display.line(f"on videos that no training saw, 4 classes, chance 25 %; {time.monotonic() - begin:.0f} s in all")
    return 0 if all(is_as_expected(row) for row in comparison.rows) else 1


def is_as_expected(row: Row) -> bool:
    """Whether a single stream stays below what it cannot know, and fusion finds what both know together."""
    (accuracy,) = row.accuracies("top1")
    return accuracy <= SINGLE_AT_MOST if row.fusion in SINGLE else accuracy >= FUSION_AT_LEAST


def _train(method: str, arguments: Sequence[str]) -> int:
    """Train in a process of its own, whose memory is then its own, too."""
    chosen = f"name={method}", f"model.fusion={method}"
    command = [sys.executable, str(ROOT / "train.py"), "-c", str(CONFIG), *arguments, *chosen]
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # which the other process has had as well: it saves, and ends
            return process.wait()


def _must(exit_code: int, what: str) -> None:
    if exit_code:
        raise UserError(f"the demo stops: {what} ended with exit code {exit_code}, see above")


def _verdicts(rows: Sequence[Row]) -> Table:
    table = Table()
    for column in ("method", "accuracy", "ceiling", "expected", "clips/s", "data wait", "time", ""):
        table.add_column(column, justify="left" if column in ("method", "") else "right")
    for row in rows:
        table.add_row(
            row.fusion,
            f"{row.accuracies('top1')[0]:.1%}",
            f"{TASKS['additive'].one_stream if row.fusion in SINGLE else 1:.0%}",
            f"at most {SINGLE_AT_MOST:.0%}" if row.fusion in SINGLE else f"at least {FUSION_AT_LEAST:.0%}",
            f"{row.mean('clips_per_s'):.1f}",
            f"{row.mean('data_wait'):.1%}",
            f"{row.mean('wall_seconds'):.0f} s",
            "ok" if is_as_expected(row) else "WRONG",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
