"""Command line: a contact sheet of clips as the model sees them, RGB above its flow."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import difflib
import sys
from collections.abc import Sequence
from functools import partial

from common.cli import add_config, at_least, command_parser, path_type, require_parent
from common.display import Display
from common.errors import exit_code_of
from configs import UserError, load_config
from pipeline.inspect.drawing import save_sheets
from pipeline.inspect.sheet import Sheet
from pipeline.loader import ClipLoader
from pipeline.sampler import epoch_order

DESCRIPTION = """\
Draw a contact sheet (PNG) of one clip, or of a random batch, as the model sees it: decoded, cropped, mirrored.
"""
NOTES = """\
Each column is one time: RGB, the flow as colours, and RGB with an outline of what moves in the flow, which must lie on
what moves in RGB. Above them stand the frame numbers of both streams, and their times where extract.py recorded
them or the video's id tells the frame rate. Flow of another time than RGB is framed in red, with the frame number that
it should have.

Colours: hue is where the flow goes, white is no motion, and full colour is as fast as the legend says, in pixels of the
frame per RGB frame where it is known how the flow was made. --raw draws the crop into the whole frames; the mark is in
the corner that is the crop's upper left, so at the right where the crop is mirrored.
"""
EXAMPLES = """\
python -m pipeline.inspect -c configs/xnorm.yaml --clip P01_01_0 --raw -o sheet.png
python -m pipeline.inspect -c configs/xnorm.yaml --clip P01_01_0 --epoch 3 -o sheet.png
python -m pipeline.inspect -c configs/xnorm.yaml --split test --eval --batch 8 -o batch.png
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it went."""
    arguments = _parser().parse_intermixed_args(argv)
    return exit_code_of(partial(_run, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.inspect", DESCRIPTION, EXAMPLES, notes=NOTES)
    add_config(parser)
    parser.add_argument("--split", default="train", help="which packed split")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--clip", metavar="ID", help="narration id (default: the first clip of a random batch)")
    which.add_argument("--batch", metavar="N", type=at_least(1), default=1, help="clips of a random batch")
    parser.add_argument(
        "--epoch", metavar="N", type=at_least(0), default=0, help="whose order and augmentation are shown"
    )
    parser.add_argument("--eval", action="store_true", help="as evaluation sees it: centre crop, no augmentation")
    parser.add_argument("--raw", action="store_true", help="add the whole frames, with the crop drawn in")
    parser.add_argument("-o", "--output", metavar="PNG", type=path_type, default="sheet.png", help="file to write")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    require_parent(arguments.output)
    config = load_config(arguments.config, arguments.overrides)
    changes = {"batch_size": arguments.batch, "device": "cpu", "prefetch": 1, "train": not arguments.eval}
    with ClipLoader.from_config(config, arguments.split, **changes) as loader:
        clips = _choose(loader, arguments)
        batch = loader.load(clips, arguments.epoch)
        root = config.data.frames
        sheets = [Sheet.of(loader, batch, position, arguments.raw, root) for position in range(len(clips))]
    save_sheets(sheets, arguments.output)
    display = Display(arguments.quiet)
    for sheet in sheets:
        display.print(f"{sheet.title}: {sheet.crop_text}; {sheet.alignment.summary}")
    display.print(f"written to {arguments.output}")
    return 0


def _choose(loader: ClipLoader, arguments: argparse.Namespace) -> list[int]:
    """The clip that is named, or as many as are asked for of the epoch's order in training."""
    if arguments.clip is not None:
        return [_position(loader, arguments.clip)]
    order = epoch_order(len(loader.clip_ids), seed=loader.sampler.seed, epoch=arguments.epoch, train=True)
    return order[: arguments.batch].tolist()  # type: ignore[no-any-return]


def _position(loader: ClipLoader, clip_id: str) -> int:
    if clip_id not in loader.clip_ids:
        close = difflib.get_close_matches(clip_id, loader.clip_ids, n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else f"; the first is {loader.clip_ids[0]}"
        raise UserError(
            f"--clip: {clip_id!r} is not among the {len(loader.clip_ids)} clips of {loader.split_dir}{hint}"
        )
    return loader.clip_ids.index(clip_id)


if __name__ == "__main__":
    sys.exit(main())
