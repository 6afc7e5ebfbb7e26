"""What packing costs beside reading the same files by tar, and how it scales from one process to two.

    python -m benchmarks.packing [--rounds 3] [--frames 1500] [--videos 8]

A tree of JPEGs of EPIC's size is written, as folders and as .tar files, and packed whole (data.frames_per_clip=all).
CPU time is that of all processes of a command, start to end. Reading is `tar cf - FRAMES | cat > /dev/null`.
"""

import csv
import io
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.command import argument_parser
from pipeline.profile.measure import ratios
from pipeline.profile.report import markdown_table, spread

ROOT = Path(__file__).resolve().parents[1]
CLIP = 250  # RGB frames per clip
SOURCES = ("folders", "tars")
CHECKS = ("header", "decode")
WORKERS = (1, 2)
READING = "reading by tar"
STREAMS = {"rgb_frames": ("",), "flow_frames": ("u/", "v/")}
CONFIG = ("-c", "configs/xnorm.yaml", "data.preset=none", "data.frames_per_clip=all", "data.shard_mib=16")


@dataclass
class Runs:
    """What a command took, round by round."""

    cpu: list[float] = field(default_factory=list)  # seconds
    wall: list[float] = field(default_factory=list)


def write_tree(root: Path, videos: int, frames: int, clip: int = CLIP) -> Path:
    """Write folders of JPEGs below `root`/folders, the same in .tar files below `root`/tars; return the annotations."""
    rng = np.random.default_rng(0)
    colour, grey = ([make_jpeg(rng, channels) for _ in range(16)] for channels in (3, 1))
    rows = []
    for number in range(videos):
        video = f"P01_{101 + number}"
        for kind, planes in STREAMS.items():
            folder = root / "folders" / "P01" / kind / video
            for plane in planes:
                (folder / plane).mkdir(parents=True)
                for frame in range(1, frames + 1):
                    jpeg = (grey if plane else colour)[(frame + number) % 16]
                    (folder / plane / f"frame_{frame:010d}.jpg").write_bytes(jpeg)
            path = root / "tars" / "P01" / kind / f"{video}.tar"  # as EPIC's download has it
            path.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(path, "w") as archive:
                archive.add(folder, arcname=".")
        rows += [[f"{video}_{n}", "P01", video, n + 1, n + clip, 0] for n in range(0, frames - clip + 1, clip)]
    annotations = root / "train.csv"
    with open(annotations, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["narration_id", "participant_id", "video_id", "start_frame", "stop_frame", "verb"])
        writer.writerows(rows)
    return annotations


def make_jpeg(rng: np.random.Generator, channels: int) -> bytes:
    """A JPEG of the size and about the bytes of EPIC's frames."""
    shape = (32, 57, 3) if channels == 3 else (32, 57)
    coarse = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    stream = io.BytesIO()
    coarse.resize((456, 256), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=75)
    return stream.getvalue()


def read(frames: Path) -> None:
    """Read all files below `frames` as cheaply as a shell can."""
    subprocess.run(f"tar cf - -C '{frames}' . | cat > /dev/null", shell=True, check=True)


def pack(frames: Path, annotations: Path, shards: Path, *overrides: str) -> None:
    """Pack all frames of a train split anew, by the command."""
    shutil.rmtree(shards, ignore_errors=True)
    data = (f"data.frames={frames}", f"data.annotations={{train: [{annotations}]}}", f"data.shards={shards}")
    command = [sys.executable, "-m", "preprocess.pack", *CONFIG, *data, *overrides, "--quiet"]
    subprocess.run(command, cwd=ROOT, check=True)


def take(work: Callable[[], None], into: Runs) -> None:
    """Run `work` and note what its processes took."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    into.wall.append(time.perf_counter() - begin)
    into.cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure(root: Path, annotations: Path, rounds: int) -> dict[str, dict[str, Runs]]:
    """Interleaved rounds of all ways, for folders and for .tar files: by source and way."""
    results: dict[str, dict[str, Runs]] = {source: defaultdict(Runs) for source in SOURCES}
    for _ in range(rounds):
        for source, runs in results.items():
            frames = root / source
            take(partial(read, frames), runs[READING])
            for check, workers in product(CHECKS, WORKERS):
                options = (f"data.check={check}", f"data.workers={workers}")
                take(partial(pack, frames, annotations, root / "shards", *options), runs[way(check, workers)])
    return results


def way(check: str, workers: int) -> str:
    """The name of a way to pack."""
    return f"packing, `data.check={check} data.workers={workers}`"


def rows(ways: dict[str, Runs], num_bytes: int) -> list[list[str]]:
    """A row per way: CPU seconds, the ratio to reading, wall seconds, MB/s."""
    reading = ways[READING]
    return [
        [
            name,
            spread(runs.cpu, ".2f"),
            spread(ratios(runs.cpu, reading.cpu), ".2f"),
            spread(runs.wall, ".2f"),
            spread([num_bytes / seconds / 1e6 for seconds in runs.wall], ".0f"),
        ]
        for name, runs in ways.items()
    ]


def speedup(ways: dict[str, Runs], check: str) -> str:
    """How many times as fast two processes are as one."""
    one, two = (ways[way(check, workers)].wall for workers in WORKERS)
    return spread(ratios(one, two), ".2f")


def main() -> None:
    """Write the tree, measure, and print a table per source."""
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--frames", type=int, default=1500, help="RGB frames per video")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        annotations = write_tree(root, arguments.videos, arguments.frames)
        sizes = [path.stat().st_size for path in (root / "folders").rglob("*.jpg")]
        results = measure(root, annotations, arguments.rounds)
    print(f"{len(sizes):,} JPEGs of 456 x 256, {sum(sizes) / 1e6:.0f} MB, medians of {arguments.rounds} interleaved")
    print(f"rounds with their range; load average of the machine in the end {os.getloadavg()[0]:.1f}.")
    for source, ways in results.items():
        print("\n" + markdown_table([source, "CPU s", "of reading's", "s", "MB/s"], rows(ways, sum(sizes))))
        times = " and ".join(f"{speedup(ways, check)} times with check `{check}`" for check in CHECKS)
        print(f"\nTwo processes are faster than one {times}.")


if __name__ == "__main__":
    main()
