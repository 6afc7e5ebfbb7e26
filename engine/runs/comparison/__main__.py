"""Finished runs side by side: python -m engine.runs.comparison RUN... (eval.py --compare)."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import sys
from collections.abc import Sequence

from common.cli import command_parser, path_type
from common.display import Display
from common.errors import exit_code_of
from engine.runs.comparison.report import show_comparison
from engine.runs.comparison.rows import compare

NOTES = """\
A RUN is a run's folder, or a folder of runs. Runs that differ by their seed alone are one row; those of other data,
clips, budget or device are marked as another setting, with an axis of its own in the picture. Where rgb and flow were
trained apart, a row is their ensemble, the mean of their probabilities.

Each row is held to late, to the ensemble and to the best single stream (by validation): the difference of accuracies,
paired clip by clip and seed by seed, with a 95 % interval; "not told apart" where that holds 0. The interval is a
bootstrap over clips, widened by what seeds differ in beside (engine/scoring/intervals.py).

Writes comparison.md, .csv, .png, and .html, a page for a browser.
"""
EXAMPLES = """\
python -m engine.runs.comparison runs
python -m engine.runs.comparison runs/late-seed0 runs/xnorm-seed0 -o results
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Print finished runs side by side and write the tables; return the exit code."""
    parser = command_parser("engine.runs.comparison", "Put finished runs into one table.", EXAMPLES, notes=NOTES)
    parser.add_argument("runs", type=path_type, nargs="+", metavar="RUN", help="runs, or folders of runs")
    parser.add_argument(
        "-o", "--output", type=path_type, metavar="FOLDER", help="where to write (default: the folder of the runs)"
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        comparison = compare(arguments.runs)
        folder = arguments.output or comparison.rows[0].runs[0].folder.parent
        show_comparison(comparison, folder, Display(arguments.quiet))
        return 0

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())
