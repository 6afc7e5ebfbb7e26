"""Damaged and crafted JPEGs through the re-coder and the trimmer: each is refused, or stays within its bytes.

    NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(mktemp -d) python -m chaos.streams [--files 3000] [--seed 0]

With that variable compiled code raises IndexError where it would read or write outside an array; without it, what can
be seen is a crash. A cache of its own keeps compiled code with and without those checks apart.
"""

import argparse
from collections import Counter

import numpy as np
import simplejpeg

from pipeline.decoders.jpeg_stream import read_header
from pipeline.decoders.trim import Window, trim_into
from preprocess.packing.restarts import has_same_pixels, recode
from tests.jpegs import SAMPLINGS, write_jpeg


def damage(jpeg: bytes, random: np.random.Generator) -> bytes:
    """Some bytes changed, cut out, doubled or cut off, in the header as often as in the scan."""
    data = bytearray(jpeg)
    scan = read_header(np.frombuffer(jpeg, np.uint8)).scan
    for _ in range(random.integers(1, 4)):
        position = int(random.integers(2, max(3, scan if random.integers(2) else len(data))))
        kind = random.integers(5)
        if kind == 0:
            data[position : position + 1] = random.bytes(1)
        elif kind == 1:
            data[position : position + 2] = bytes([0xFF, random.integers(0xC0, 0x100)])
        elif kind == 2:
            del data[position : position + int(random.integers(1, 20))]
        elif kind == 3:
            data[position:position] = data[position : position + int(random.integers(1, 60))]
        else:
            del data[max(position, len(data) // 2) :]
    return bytes(data)


def try_one(random: np.random.Generator) -> Counter[str]:
    """What became of one damaged file, as it is re-coded and, whether it was or not, trimmed."""
    sampling, size = SAMPLINGS[random.integers(len(SAMPLINGS))], random.integers(1, 80, 2).tolist()
    jpeg = write_jpeg(*size, sampling, int(random.integers(20, 100)), restarts=int(random.integers(0, 4)))
    seen: Counter[str] = Counter()
    for original in (jpeg, recode(jpeg)):
        damaged = damage(original, random)
        try:
            recoded = recode(damaged)
            seen["re-coded"] += 1
            seen["other pixels"] += not agrees(damaged, recoded)
        except ValueError:
            seen["refused"] += 1
        seen["trimmed" if trims(damaged, random) else "not trimmed"] += 1
    return seen


def agrees(jpeg: bytes, recoded: bytes) -> bool:
    """Whether decoders see one image in both, or refuse both."""
    try:
        simplejpeg.decode_jpeg(jpeg)
    except ValueError:
        return True
    return has_same_pixels(jpeg, recoded)


def trims(jpeg: bytes, random: np.random.Generator) -> bool:
    """Trim to a window of what the header says, into no more room than is asked for."""
    data = np.frombuffer(jpeg, np.uint8)
    header = read_header(data)
    if header.refusal:
        return trim_into(data, Window(0, 0, 1, 1), np.empty(len(data), np.uint8)) is not None
    top, left = int(random.integers(header.height)), int(random.integers(header.width))
    window = Window(
        top, left, int(random.integers(header.height - top)) + 1, int(random.integers(header.width - left)) + 1
    )
    return trim_into(data, window, np.empty(len(data), np.uint8)) is not None


def main() -> None:
    """Print how many files of each outcome there were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    seen: Counter[str] = Counter()
    for _ in range(arguments.files // 2):
        seen += try_one(random)
    print(", ".join(f"{number} {what}" for what, number in sorted(seen.items())))


if __name__ == "__main__":
    main()
