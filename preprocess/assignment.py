"""What one command does of a split: which of its shards it writes, and whether it joins all of them in the end."""

import argparse
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Assignment:
    """Positions of shards, and whether the split is finished by this command.

    Those who finish nothing may work on one split at the same time, on any number of machines.
    """

    shards: slice
    joins: bool


WHOLE = Assignment(slice(None), joins=True)
FINISH = Assignment(slice(0), joins=True)


def parse_slice(text: str) -> Assignment:
    """Turn `i/n` into the i-th n-th of the shards, every n-th one of them; an argparse type."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: i/n, from 1/n to n/n")
    return Assignment(slice(number - 1, None, count), joins=False)
