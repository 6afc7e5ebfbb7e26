"""Synthetic data: a small tree in EPIC's layout whose labels need both streams.

    python preprocess/synth.py -o data/synth
    python preprocess/synth.py --task binding -o data/binding

The tasks differ in what a fusion must be able to do: `additive` (add the streams' logits up), `xor` (let two global
features interact), `binding` (compare the streams position by position). One stream alone cannot tell the class.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

if __package__ in (None, ""):  # run as a file: make the project's packages importable without installing it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from common.startup import begin

    begin()

from common.cli import at_least, command_parser, path_type
from common.display import Display
from common.errors import exit_code_of
from preprocess.scenes import TASKS
from preprocess.scenes.tree import write_tree


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = command_parser(
        "synth.py",
        "Write a small tree in EPIC's layout whose labels need both streams.",
        "python preprocess/synth.py --task binding -o data/binding",
    )
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", type=path_type, required=True, help="folder to write, new or empty"
    )
    parser.add_argument("--task", choices=TASKS, default="additive", help="task: what a fusion must be able to do")
    parser.add_argument("--seed", type=int, default=0, help="seed of all that is drawn")
    counts = ("TRAIN", "VAL", "TEST")
    parser.add_argument(
        "--videos", type=int, nargs=3, metavar=counts, help="videos in each split (default: the task's)"
    )
    parser.add_argument("--clips", type=int, help="clips per video, equally many of each class (default: the task's)")
    parser.add_argument("--frames", type=int, help="RGB frames per clip (default: the task's)")
    parser.add_argument("--workers", type=at_least(0), default=0, help="worker processes; 0: one per core")
    return exit_code_of(partial(_run, parser.parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    options = vars(arguments)
    root, display = options.pop("output"), Display(options.pop("quiet"))
    tree = write_tree(root, **options | {"videos": arguments.videos and tuple(arguments.videos)})
    num_clips = sum(video.options.clips for video in tree.videos)
    names = ", ".join(TASKS[arguments.task].class_names)
    display.print(f"{root}: {len(tree.videos)} videos, {num_clips} clips of the classes {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
