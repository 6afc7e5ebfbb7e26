"""The command line that the benchmarks share."""

import argparse


def argument_parser(doc: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """The parser of a benchmark, described by its docstring; `rounds` is the default of --rounds, if it has them."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds (default: %(default)s)")
    return parser
