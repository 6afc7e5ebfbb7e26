"""Command line: a contact sheet of one clip pair as the model sees it, RGB above the flow of the same moments."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from configs import UserError, load_config
from configs.command import add_config, at_least, check_folder, command_parser
from configs.display import Display
from configs.errors import exit_code_of
from pipeline.loader import ClipLoader
from pipeline.sheet import Sheet, decode_whole, draw_sheet

DESCRIPTION = "Draw a contact sheet of one clip pair as the model sees it, RGB above the flow of the same moments."
EXAMPLES = """\
python -m pipeline.inspect -c configs/xnorm.yaml --split train --clip P01_01_0 -o sheet.png
python -m pipeline.inspect -c configs/xnorm.yaml --split train --clip P01_01_0 --epoch 3 --raw -o sheet.png
python -m pipeline.inspect -c configs/xnorm.yaml --split test --eval -o sheet.png
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it went."""
    arguments = _parser().parse_intermixed_args(argv)
    return exit_code_of(partial(_run, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.inspect", DESCRIPTION, EXAMPLES)
    add_config(parser)
    parser.add_argument("--split", default="train", help="which packed split")
    parser.add_argument("--clip", metavar="ID", help="narration id (default: the first clip of the epoch's order)")
    parser.add_argument("--epoch", metavar="N", type=at_least(0), default=0, help="whose crop, mirror and moments")
    parser.add_argument("--eval", action="store_true", help="as evaluation sees it: centre crop, no augmentation")
    parser.add_argument("--raw", action="store_true", help="add the whole frames, with the crop drawn in")
    parser.add_argument("-o", "--output", metavar="PNG", type=Path, required=True, help="file to write")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    check_folder(arguments.output)
    config = load_config(arguments.config, arguments.overrides)
    single = {"batch_size": 1, "device": "cpu", "prefetch": 1}
    with ClipLoader.from_config(config, arguments.split, train=not arguments.eval, **single) as loader:
        clip = _position(loader, arguments.clip, arguments.epoch)
        sheet = Sheet.of(loader, loader.load([clip], arguments.epoch))
        raw = decode_whole(loader.preparer.reader.read(clip, sheet.view.frames)) if arguments.raw else None
    draw_sheet(sheet, raw, arguments.output)
    Display(arguments.quiet).line(f"{arguments.output}: {sheet.title}")
    return 0


def _position(loader: ClipLoader, clip_id: str | None, epoch: int) -> int:
    if clip_id is None:
        return int(next(loader.schedule.slots(epoch, 0)).clips[0])
    if clip_id not in loader.clip_ids:
        close = difflib.get_close_matches(clip_id, loader.clip_ids, n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else f"; the first is {loader.clip_ids[0]}"
        raise UserError(
            f"--clip: {clip_id!r} is not among the {len(loader.clip_ids)} clips of {loader.split_dir}{hint}"
        )
    return loader.clip_ids.index(clip_id)


if __name__ == "__main__":
    sys.exit(main())
