"""A run's page written anew from its folder, e.g. after its shards have moved: python -m engine.report RUN."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from common.cli import command_parser, path_type
from common.display import Display
from common.errors import exit_code_of
from configs import UserError, load_config
from engine.report.page import page_of, write_page
from engine.runs.records import CONFIG
from engine.scoring.reports import METRICS

NOTES = """\
train.py and eval.py write the page themselves. It is made of the files in the run's folder; moving clips are decoded
from the shards, and where these are gone, the page says so. data.shards=FOLDER says where they are now.
"""
EXAMPLES = """\
python -m engine.report runs/xnorm
python -m engine.report runs/xnorm --scored val data.shards=/mnt/shards
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser("engine.report", "Write a run's page, report.html, anew.", EXAMPLES, notes=NOTES)
    parser.add_argument("run", type=path_type, metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--scored", default="test", metavar="NAME", help="which of its scored splits: test, val, test-10x3"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to replace (default: none)")
    arguments = parser.parse_intermixed_args(argv)
    return exit_code_of(partial(_run, arguments))


def _run(arguments: argparse.Namespace) -> int:
    run: Path = arguments.run
    if not (run / CONFIG).is_file():
        raise UserError(f"{run}: no run's folder: it has no {CONFIG}")
    config, scored = load_config(run / CONFIG, arguments.overrides), run / arguments.scored
    is_scored = (scored / METRICS).is_file()
    write_page(page_of(scored), config, run, scored if is_scored else None, arguments.scored.split("-")[0])
    Display(arguments.quiet).print(f"written to {page_of(scored)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
