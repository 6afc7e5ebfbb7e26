"""Command line: a contact sheet of one clip pair as the model sees it, RGB above the flow of the same moments."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from configs import UserError, load_config
from configs.errors import exit_code_of
from pipeline.arguments import at_least, check_folder, split_parser
from pipeline.loader import ClipLoader
from pipeline.sheet import Sheet, decode_whole, draw_sheet

EPILOG = """\
examples:
  python -m pipeline.inspect -c configs/xnorm.yaml --split train --clip P01_01_0 -o sheet.png
  python -m pipeline.inspect -c configs/xnorm.yaml --split train --clip P01_01_0 --epoch 3 --raw -o sheet.png
  python -m pipeline.inspect -c configs/xnorm.yaml --split test --eval -o sheet.png

exit codes: 0 done, 1 the work failed, 2 the command or config is wrong
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it went."""
    arguments = _parser().parse_intermixed_args(argv)
    return exit_code_of(partial(_run, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = split_parser("pipeline.inspect", __doc__, EPILOG)
    parser.add_argument("--clip", metavar="ID", help="narration id; default: the first clip of the epoch's order")
    parser.add_argument("--epoch", type=at_least(0), default=0, help="whose crop, mirror and moments; default: 0")
    parser.add_argument("--eval", action="store_true", help="as evaluation sees it: centre crop, no augmentation")
    parser.add_argument("--raw", action="store_true", help="add the whole frames, with the crop drawn in")
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG file to write")
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
    Console().print(f"{arguments.output}: {sheet.title}", highlight=False)
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
