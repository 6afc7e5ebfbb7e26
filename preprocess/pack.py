"""Command line: packs the frames of every split that the config names into shards, or plans or verifies that."""

import argparse
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

if __package__ in (None, ""):  # run as a file: make the project's packages importable without installing it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from configs.startup import begin

    begin()

from configs.command import add_config, command_parser
from configs.display import Display
from configs.errors import UserError, exit_code_of
from configs.load import load_config
from configs.schema import DataSection
from preprocess.annotations import Clip, read_split
from preprocess.cluster import ClusterWorkers
from preprocess.codec import count_pictures
from preprocess.job import SplitPacker
from preprocess.presets import select
from preprocess.report import show_outcome, show_plan
from preprocess.verify import verify_split
from preprocess.workers import Workers

DESCRIPTION = """\
Pack the labelled clips of each split into a few large shards, JPEG bytes untouched or, with
data.codec=raw, as pixels.
Safe to run again after any interruption: what is complete is kept, what is not is redone.
"""
EXAMPLES = """\
python preprocess/pack.py -c configs/xnorm.yaml --plan
python preprocess/pack.py -c configs/xnorm.yaml data.frames=/data/epic data.workers=8
python preprocess/pack.py -c configs/xnorm.yaml --verify
python preprocess/pack.py 'data.annotations={train: [a.csv, b.csv], val: [c.csv]}' data.preset=none
python preprocess/pack.py -c configs/xnorm.yaml --scheduler tcp://host:8786
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it went."""
    arguments = _parser().parse_intermixed_args(argv)
    return exit_code_of(lambda: _run(arguments), "complete shards are kept, the same command goes on from there")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pack.py", DESCRIPTION, EXAMPLES)
    add_config(parser)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--plan", action="store_true", help="say what there is and what would be packed; write nothing")
    modes.add_argument("--verify", action="store_true", help="re-read every record and list what is wrong")
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="work on the dask.distributed cluster of this scheduler, tcp://host:8786 (default: on this machine)",
    )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    data = load_config(arguments.config, arguments.overrides).data
    with Display(arguments.quiet) as display:
        if arguments.scheduler is None:
            workers = Workers(data.workers)
        else:
            workers = ClusterWorkers(arguments.scheduler, display)
            # Its processes were started in other folders.
            data = data.model_copy(update={"frames": data.frames.absolute(), "shards": data.shards.absolute()})
        with workers:
            if arguments.verify:
                return _verify(data, workers, display)
            if arguments.plan:
                return _plan(data, workers, display)
            return _pack(data, workers, display)


def read_splits(data: DataSection, display: Display) -> dict[str, list[Clip]]:
    """The clips of each split that the config names.

    Raises:
        UserError: annotations are wrong, or give a split no clip.
    """
    splits = {}
    rows: dict[tuple[Path, ...], list[Clip]] = {}  # a preset can cut several splits from the same files
    for split, paths in data.annotations.splits().items():
        files = tuple(paths)
        rows[files] = rows.get(files) or read_split(paths, split)
        splits[split] = select(rows[files], data.preset, split)
        if not splits[split]:
            where = ", ".join(map(str, paths))
            hint = "data.preset=none takes all"
            raise UserError(f"{where}: no row belongs to the {split} split of preset {data.preset!r}; {hint}")
    _warn_of_leaks(splits, display)
    return splits


def _warn_of_leaks(splits: dict[str, list[Clip]], display: Display) -> None:
    """Say when splits share clips: what is trained on says nothing when it is scored."""
    ids = {split: {clip.clip_id for clip in clips} for split, clips in splits.items()}
    for one, other in combinations(ids, 2):
        shared = ids[one] & ids[other]
        if shared:
            display.line(f"warning: {len(shared)} clips are in both {one} and {other}, {min(shared)} among them")


def _pack(data: DataSection, workers: Workers, display: Display) -> int:
    failed = []
    for split, clips in read_splits(data, display).items():
        try:
            show_outcome(split, SplitPacker(split, clips, data, workers, display).pack(), display)
        except UserError as error:  # the other splits can still be packed
            failed.append(str(error))
    if failed:
        raise UserError("\n       ".join(failed))
    return 0


def _plan(data: DataSection, workers: Workers, display: Display) -> int:
    splits = read_splits(data, display)
    plans = {split: SplitPacker(split, clips, data, workers, display).plan() for split, clips in splits.items()}
    show_plan(splits, plans, data, display)
    return 0


def _verify(data: DataSection, workers: Workers, display: Display) -> int:
    num_wrong = 0
    for name in data.annotations.splits():
        split, wrong = verify_split(data.shards / name, workers, display)
        for line in wrong:
            display.fault(f"{name}: {line}")
        if split is not None and not wrong:
            what = f"{split.index.num_clips:,} clips, {count_pictures(split.index)}"
            display.line(f"{name}: {what}: every byte is as it was packed")
        num_wrong += len(wrong)
    if num_wrong:
        raise UserError(
            f"{num_wrong} things are wrong; copy those files again, or remove the split's folder and pack it anew"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
