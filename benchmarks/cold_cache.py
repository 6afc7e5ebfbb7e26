"""What asking for the coming batches' bytes is worth when the page cache is cold.

    python benchmarks/cold_cache.py SPLIT_DIR [--rounds 5] [--batches 12]

Each round drops the shards from the page cache and takes some batches, once as the loader does and once without the
request. The split should be larger than those batches, and its disk slower than memory.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

from pipeline.loader import ClipLoader
from pipeline.reader import ClipReader


def main() -> None:
    """Measure and print medians with their ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--num-frames", type=int, default=16)
    arguments = parser.parse_args()
    announce = ClipReader.announce
    seconds: dict[str, list[float]] = {"asked for ahead": [], "not asked for": []}
    for _ in range(arguments.rounds):
        for name, results in seconds.items():
            ClipReader.announce = announce if name == "asked for ahead" else lambda *_: None  # type: ignore[method-assign]
            drop_from_cache(arguments.split)
            results.append(take(arguments.split, arguments.num_frames, arguments.batches))
    for name, results in seconds.items():
        print(f"{name}: {statistics.median(results):.3f} s ({min(results):.3f} to {max(results):.3f})")
    ratios = [without / ahead for ahead, without in zip(*seconds.values(), strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def drop_from_cache(split: Path) -> None:
    """Have the kernel forget the pages of all shards."""
    for path in split.glob("*.tfrecord"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def take(split: Path, num_frames: int, batches: int) -> float:
    """Seconds for the batches after the first."""
    with ClipLoader(split, 4, num_frames, num_threads=2) as loader:
        running = iter(loader)
        next(running)
        begin = time.perf_counter()
        for _ in range(min(batches, len(loader) - 1)):
            next(running)
        return time.perf_counter() - begin


if __name__ == "__main__":
    main()
