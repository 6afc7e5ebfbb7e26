"""What asking for the coming batches' bytes is worth when the page cache is cold.

    python -m benchmarks.cold_cache SPLIT [--rounds 5] [--batches 9] [--step-ms 150]

Each round drops the shards from the page cache and takes some batches, with a pause for the model's step after each,
once as the loader does and once without the request. The split should be larger than those batches, and its disk slower
than memory. Where it is not, root can make it so for one shell (cgroup v1; 8:0 is the disk, as `lsblk` has it):

    mkdir /sys/fs/cgroup/blkio/slow
    echo "8:0 20000000" > /sys/fs/cgroup/blkio/slow/blkio.throttle.read_bps_device
    echo $$ > /sys/fs/cgroup/blkio/slow/tasks
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.command import argument_parser
from pipeline.loader import ClipLoader
from pipeline.profile.report import spread
from pipeline.reader import ClipReader


class Round(NamedTuple):
    """What one round took: seconds to the first batch, mean wait for those after it, MB fetched from the disk."""

    first_s: float
    wait_ms: float
    read_mb: float


def main() -> None:
    """Measure and print medians of the rounds with their ranges."""
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument("split", type=Path)
    parser.add_argument("--batches", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--step-ms", type=float, default=150.0, help="pause after each batch, as for a model")
    arguments = parser.parse_args()
    read_ahead = ClipReader.read_ahead
    rounds: dict[str, list[Round]] = {"asked for ahead": [], "not asked for": []}
    for _ in range(arguments.rounds):
        for way, results in rounds.items():
            ClipReader.read_ahead = read_ahead if way == "asked for ahead" else lambda *_: None  # type: ignore[method-assign]
            drop_from_cache(arguments.split)
            results.append(measure(arguments))
    for way, results in rounds.items():
        first, wait, read = zip(*results, strict=True)
        print(
            f"{way}: first batch after {spread(first, '.2f')} s, then waits of {spread(wait, '.0f')} ms a batch; "
            f"{spread(read, '.0f')} MB read"
        )


def drop_from_cache(split: Path) -> None:
    """Have the kernel forget the pages of all shards."""
    for path in split.glob("*.tfrecord"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(arguments: argparse.Namespace) -> Round:
    """Take batches from a cold cache."""
    read = bytes_read()
    with ClipLoader(arguments.split, arguments.batch_size, arguments.num_frames, num_threads=2) as loader:
        running = iter(loader)
        waits = []
        for _ in range(min(arguments.batches + 1, len(loader))):
            asked = time.perf_counter()
            next(running)
            waits.append(time.perf_counter() - asked)
            time.sleep(arguments.step_ms / 1e3)
    return Round(waits[0], statistics.mean(waits[1:]) * 1e3, (bytes_read() - read) / 1e6)


def bytes_read() -> int:
    """What this process has had the kernel fetch from disks so far, what that read ahead by itself included."""
    line = next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("read_bytes"))
    return int(line.split()[1])


if __name__ == "__main__":
    main()
