"""Command line: turn videos and a CSV into frames, optical flow and annotations."""

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a file: make the project's packages importable without installing it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from common.startup import begin

    begin()

from pydantic import ValidationError

from common.cli import at_least, command_parser, path_type
from common.display import Display
from common.errors import ConfigError, UserError, exit_code_of, listed
from common.files import atomic_write
from preprocess.videos.encoding import ExtractOptions
from preprocess.videos.extract_all import MARKER, Records, extract_videos
from preprocess.videos.optical_flow import METHODS, flow_method
from preprocess.videos.own_config import own_config
from preprocess.videos.segments import COLUMNS, locate, read_table
from preprocess.videos.splits import Labelled, alike_labels, label, read_classes, write_annotations

DESCRIPTION = """\
Turn a folder of videos and a CSV (file, start, stop, label) into RGB frames, optical flow and annotations in the layout
that pack.py reads. Safe to run again after any interruption: a video is there whole or not at all.
"""
NOTES = f"""\
Columns of the CSV: {COLUMNS}.
A file is a video, or a folder of numbered images. A row without times is a whole video.
Labels are class numbers, or names, which are numbered in alphabetical order, after those of --classes.
Without a column split, whole videos are drawn for each split by --ratio; new videos draw anew.

Writes OUT/frames (archives in EPIC's layout; {MARKER} has the options), OUT/annotations (a CSV per split) and
OUT/config.yaml for pack.py, inspect, train.py and eval.py; an existing config.yaml is kept.
All frames of a clip are stored, for temporal jitter and several views; batch size and epochs fit the clips.
Flow is stored as bytes round(clip(flow, -bound, bound) / bound * 127.5 + 127.5): 127.5 is no motion.
"""
EXAMPLES = """\
python preprocess/extract.py videos segments.csv -o own
python preprocess/extract.py videos segments.csv -o own --fps 30 --bound 15 --ratio 0.7 0.15 0.15
python preprocess/extract.py videos segments.csv -o own-tvl1 --flow tvl1 --on-bad skip --workers 8
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it went."""
    arguments = _parser().parse_args(argv)
    return exit_code_of(lambda: _run(arguments), "complete videos are kept, the same command goes on from there")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("extract.py", DESCRIPTION, EXAMPLES, notes=NOTES)
    parser.set_defaults(**ExtractOptions().model_dump())
    parser.add_argument("videos", metavar="VIDEOS", type=path_type, help="folder of videos")
    parser.add_argument("table", metavar="CSV", type=path_type, help="which part of which video shows what")
    parser.add_argument("-o", "--output", metavar="OUT", type=path_type, required=True, help="folder to write")
    add = parser.add_argument_group("frames").add_argument
    add("--short-side", type=at_least(0), metavar="PIXELS", help="scale the shorter side to this; 0: no scaling")
    add("--fps", type=float, metavar="F", help="frames per second to take, or of folders of frames (default: all)")
    add("--quality", type=int, metavar="Q", help="JPEG quality of RGB frames, 1 to 100")
    add = parser.add_argument_group("flow").add_argument
    add("--flow", choices=METHODS, help="optical flow method; tvl1 needs opencv-contrib")
    add("--bound", type=float, metavar="PIXELS", help="flow beyond this is clipped")
    add("--stride", type=int, choices=(1, 2), help="RGB frames per flow frame")
    add("--dilation", type=at_least(1), metavar="N", help="flow is computed from frame t to frame t + N")
    add("--flow-quality", type=int, metavar="Q", help="JPEG quality of flow frames, 1 to 100")
    add = parser.add_argument_group("splits, where the CSV names none").add_argument
    shares = ("TRAIN", "VAL", "TEST")
    add("--ratio", type=float, nargs=3, default=(0.8, 0.2, 0.0), metavar=shares, help="share of videos in each split")
    add("--seed", type=at_least(0), default=0, help="seed of the random train/val/test split")
    classes = "classes.csv (id, key) whose class numbers are continued (default: numbers of its own)"
    parser.add_argument("--classes", metavar="FILE", type=path_type, help=classes)
    bad = "error: stop at bad videos and rows; skip: leave them out and list them"
    parser.add_argument("--on-bad", choices=("error", "skip"), default="error", help=bad)
    parser.add_argument("--workers", type=at_least(0), default=0, help="worker processes; 0: one per core")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    options = _options(arguments)
    table = read_table(arguments.table)
    if table.unit == "frames" and options.fps is not None:
        raise ConfigError(f"--fps: {table.path} counts frames, which would be others then; write seconds, or leave it")
    known = None if arguments.classes is None else read_classes(arguments.classes)
    found = locate(arguments.videos, table)
    try:
        with Display(arguments.quiet) as display:
            frames = arguments.output / "frames"
            records, bad = extract_videos(table, found, frames, options, arguments.workers, display)
            labelled, wrong = label(table, records, arguments.ratio, arguments.seed, known)
            wrong = [f"{arguments.videos / file}: {why}" for file, why in bad.items()] + wrong
            _check_bad(wrong, labelled, arguments.on_bad, display)
            _write(arguments.output, labelled, records, display)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{where}{error.strerror or error}; complete videos are kept") from None
    return 0


def _options(arguments: argparse.Namespace) -> ExtractOptions:
    """The options, once they are known to make sense and the packages to be there."""
    try:
        options = ExtractOptions(**{name: getattr(arguments, name) for name in ExtractOptions.model_fields})
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0])
        allowed = ExtractOptions.model_fields[field].description
        raise ConfigError(f"--{field.replace('_', '-')}: found {problem['input']}; allowed: {allowed}") from None
    if min(arguments.ratio) < 0 or not arguments.ratio[0]:
        raise ConfigError(f"--ratio: found {arguments.ratio}; allowed: three shares, TRAIN above 0")
    if not arguments.videos.is_dir():
        raise ConfigError(f"{arguments.videos}: no such folder; the first argument is the folder of videos")
    missing = [module for module in ("av", "cv2") if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(f"extracting needs PyAV and OpenCV ({', '.join(missing)} missing): pip install '.[extract]'")
    flow_method(arguments.flow)
    return options


def _check_bad(wrong: Sequence[str], labelled: Labelled, on_bad: str, display: Display) -> None:
    """Report what cannot be used; stop unless it may be left out and something is left."""
    if not wrong:
        return
    lines = listed(wrong, separator="\n  ")
    if on_bad == "error" or not labelled.splits:
        way_out = "mend them and run the same again, or leave them out with --on-bad skip; what is extracted is kept"
        raise UserError(f"{len(wrong)} videos or rows cannot be used:\n  {lines}\n{way_out}")
    display.print(f"left out, {len(wrong)} videos or rows:\n  {lines}")


def _write(folder: Path, labelled: Labelled, records: Records, display: Display) -> None:
    """Write annotations and config, and say what there is and what comes next."""
    paths = write_annotations(labelled, folder / "annotations")
    for split, clips in labelled.splits.items():
        absent = labelled.absent(split)
        lacks = f"; none of {listed(absent)}" if absent else ""
        display.print(f"{split}: {len(clips)} clips of {len({clip.video_id for clip in clips})} videos{lacks}")
    _warn(labelled, display)
    config = folder / "config.yaml"
    if config.exists():
        display.print(f"{config}: left as it is; labels run from 0 to {labelled.num_classes - 1}")
    else:
        short_sides = [min(record.width, record.height) for record in records.values()]
        with atomic_write(config, "w") as file:
            file.write(own_config(folder, paths, labelled, short_sides))
    display.print(f"next: {shlex.join(['python', 'preprocess/pack.py', '-c', str(config)])}")


def _warn(labelled: Labelled, display: Display) -> None:
    """Say what of the labels and splits may not be as it was meant."""
    for one, other in alike_labels(labelled.classes or []):
        display.print(f"note: {one!r} and {other!r} are two classes; write them alike if they are one")
    if labelled.absent("train"):
        display.print(
            f"note: no training clips of {listed(labelled.absent('train'))}: no video of it can be spared by the other "
            "splits; more videos, or a column split, or --ratio 1 0 0 would change that"
        )
    if "val" not in labelled.splits:
        display.print(
            "note: no validation clips, which train.py needs: it takes two videos at least, or a column split"
        )


if __name__ == "__main__":
    sys.exit(main())
