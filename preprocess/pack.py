"""Command line: pack the frames of every split into shards; plan or verify them."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

if __package__ in (None, ""):  # run as a file: make the project's packages importable without installing it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from common.startup import begin

    begin()

from common.cli import add_config, command_parser
from common.display import Display
from common.errors import UserError, exit_code_of, listed
from configs.load import load_config
from configs.presets import Preset
from configs.schema import DataSection
from pipeline.format.index import Target
from pipeline.format.streams import STREAMS
from preprocess.annotations import LABEL, Clip, Rows, Targets, read_split, select
from preprocess.classes import class_names
from preprocess.cluster import ClusterWorkers
from preprocess.packing.codec import count_frames
from preprocess.packing.pack_split import SplitPacker
from preprocess.packing.report import show_outcome, show_plan
from preprocess.packing.verify import verify_split
from preprocess.workers import Workers

Classes = dict[str, tuple[str, ...] | None]  # names of each target's classes, from 0 on

DESCRIPTION = """\
Pack the labelled clips of each split into a few large shards, JPEG bytes untouched or, with
data.codec=jpeg-restarts, re-coded without loss, or with raw as pixels.
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
    modes.add_argument(
        "--plan", action="store_true", help="report what there is and what would be packed; write nothing"
    )
    modes.add_argument("--verify", action="store_true", help="re-read every record and list what is wrong")
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="dask.distributed scheduler whose cluster packs, tcp://host:8786 (default: this machine)",
    )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    data = config.data
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
            splits, classes = read_splits(data, display)
            targets = tuple(Target(name=name, classes=names) for name, names in classes.items())
            streams = tuple(STREAMS[name] for name in STREAMS if name in config.streams)
            packers = [SplitPacker(*split, data, workers, display, targets, streams) for split in splits.items()]
            if arguments.plan:
                show_plan(splits, classes, {packer.split: packer.plan() for packer in packers}, data, display)
            else:
                _pack(packers, display)
            for one, other, videos in _shared(splits, "video_id"):
                display.print(
                    f"note: {one} and {other} share {len(videos)} videos ({listed(videos, 3)}): clips of one video "
                    "look alike, so that scores of one split say less of new videos"
                )
            return 0


def read_splits(data: DataSection, display: Display) -> tuple[dict[str, list[Clip]], Classes]:
    """Clips of each split that the config names, and class names; notes what is odd.

    Raises:
        UserError: annotations are wrong, or give a split no clip.
    """
    preset = data.rows
    targets = {name: (column,) for name, column in preset.targets.items()} if preset.targets else LABEL
    splits = {}
    rows: dict[tuple[Path, ...], Rows] = {}  # a preset can cut several splits from the same files
    for split, paths in data.annotations.splits().items():
        files = tuple(paths)
        rows[files] = rows.get(files) or read_split(paths, split, targets)
        splits[split] = select(rows[files].clips, preset, split)
        if not splits[split]:
            where = ", ".join(map(str, paths))
            hint = "data.preset=none takes all"
            raise UserError(f"{where}: no row belongs to the {split} split of preset {data.preset!r}; {hint}")
        for path in rows[files].unlabelled:
            display.print(f"note: {path} has no labels ({', '.join(targets)}): {split} can be scored into predictions")
    for one, other, clips in _shared(splits, "clip_id"):
        display.print(f"warning: {len(clips)} clips are in both {one} and {other}, {clips[0]} among them")
    return splits, _name_classes(targets, preset, rows, display)


def _name_classes(targets: Targets, preset: Preset, rows: Mapping[tuple[Path, ...], Rows], display: Display) -> Classes:
    folders = dict.fromkeys(path.parent for files in rows for path in files)
    named: Classes = {}
    for name, columns in targets.items():
        texts: dict[int, Counter[str]] = {}
        for found in rows.values():
            for number, counts in found.texts[name].items():
                texts.setdefault(number, Counter()).update(counts)
        names, notes = class_names(name, columns[0], folders, texts, preset.classes.get(name))
        named[name] = names
        for note in notes:
            display.print(f"note: {note}")
    return named


def _shared(splits: Mapping[str, Sequence[Clip]], name: str) -> Iterator[tuple[str, str, list[str]]]:
    """Pairs of splits that have ids in common: what is trained on says nothing when it is scored."""
    for (one, clips), (other, others) in combinations(splits.items(), 2):
        if ids := {getattr(clip, name) for clip in clips} & {getattr(clip, name) for clip in others}:
            yield one, other, sorted(ids)


def _pack(packers: Sequence[SplitPacker], display: Display) -> None:
    failed: dict[str, None] = {}  # a wrong data.frames is said once
    for packer in packers:
        try:
            show_outcome(packer.split, packer.pack(), display)
        except UserError as error:  # the other splits can still be packed
            failed[str(error)] = None
    if failed:
        raise UserError("\n       ".join(failed))


def _verify(data: DataSection, workers: Workers, display: Display) -> int:
    num_wrong = 0
    for name in data.annotations.splits():
        split, wrong = verify_split(data.shards / name, workers, display)
        for line in wrong:
            display.error(f"{name}: {line}")
        if split is not None and not wrong:
            what = f"{split.index.num_clips:,} clips, {count_frames(split.index)}"
            display.print(f"{name}: {what}: every byte is as it was packed")
        num_wrong += len(wrong)
    if num_wrong:
        raise UserError(
            f"{num_wrong} things are wrong; copy those files again, or remove the split's folder and pack it anew"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
