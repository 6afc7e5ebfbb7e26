"""What the profiler's and the inspector's command lines have in common."""

import argparse
from collections.abc import Callable
from pathlib import Path

from configs.errors import ConfigError


def split_parser(prog: str, description: str | None, epilog: str) -> argparse.ArgumentParser:
    """The parser of a command that looks at a packed split: its config, the split, overrides; the rest is added."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog, description=description, epilog=epilog, formatter_class=layout)
    parser.add_argument("-c", "--config", default="configs/xnorm.yaml", help="YAML file; default: %(default)s")
    parser.add_argument("--split", default="train", help="which packed split; default: %(default)s")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="replace a value of the config")
    return parser


def at_least(lowest: int) -> Callable[[str], int]:
    """An argparse type: an integer that is not below `lowest`."""

    def parse(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"found {text!r}, allowed: {lowest} and more")
        return int(text)

    return parse


def check_folder(path: Path | None) -> None:
    """Refuse a file to write whose folder is not there, before the work rather than after it."""
    if path is not None and not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} does not exist; make it first")
