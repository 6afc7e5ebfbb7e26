"""The command lines: one look for all, every option with its default, examples at the end."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.paths import expand_path

EXIT_CODES = """\
exit codes: 0 done, 1 the work failed, 2 the command or config is wrong, 130 ended by Ctrl-C (143 by SIGTERM, 129 by
SIGHUP)
"""
DEFAULT_CONFIG = "configs/xnorm.yaml"


class Help(argparse.RawDescriptionHelpFormatter):
    """Adds to each option what happens without it, unless its text says so itself."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if not action.option_strings or "default" in text or action.default is argparse.SUPPRESS:
            return text
        if action.required:
            return f"{text} (required)"
        if action.nargs == 0:
            return f"{text} (default: off)"
        if isinstance(action.default, tuple | list):
            return f"{text} (default: {' '.join(map(str, action.default))})"
        return f"{text} (default: %(default)s)"


def command_parser(prog: str, description: str, examples: str, *, notes: str = "") -> argparse.ArgumentParser:
    """The parser of a command, with --quiet; its help ends with `notes`, the exit codes and `examples`, a line each."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    parts = [part.strip() for part in (notes, EXIT_CODES) if part.strip()]
    epilog = "\n\n".join([*parts, f"examples:\n{lines}"])
    parser = argparse.ArgumentParser(prog, description=description, epilog=epilog, formatter_class=Help)
    parser.add_argument("--quiet", action="store_true", help="print errors alone")
    return parser


def add_config(parser: argparse.ArgumentParser, **changes: Any) -> None:
    """Add -c and the overrides; `changes` go to add_argument of -c."""
    settings = {"metavar": "YAML", "default": DEFAULT_CONFIG, "help": "the config", **changes}
    parser.add_argument("-c", "--config", type=path_type, action=_Once, **settings)
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="config keys to replace, values as in YAML"
    )


class _Once(argparse.Action):
    """Refuses an option that is given twice, of which argparse would keep the last without a word."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if getattr(namespace, self.dest) is not self.default:
            parser.error(f"{option}: found {getattr(namespace, self.dest)} and {values}; allowed: one of them")
        setattr(namespace, self.dest, values)


def path_type(text: str) -> Path:
    """An argparse type: a path, with ~ and variables expanded."""
    try:
        return expand_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def at_least(lowest: int) -> Callable[[str], int]:
    """An argparse type: an integer that is not below `lowest`."""

    def parse(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"found {text!r}, allowed: {lowest} and more")
        return int(text)

    return parse


def require_parent(file: Path | None) -> None:
    """Refuse a file to write whose folder is not there, before the work rather than after it.

    Raises:
        ConfigError: the folder is missing.
    """
    if file is not None and not file.parent.is_dir():
        raise ConfigError(f"{file}: the folder {file.parent} does not exist; make it first")
