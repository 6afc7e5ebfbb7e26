"""What a large split costs: opening it, and each batch, for indexes of a thousand to a hundred thousand clips.

    python -m benchmarks.large_index [--clips 1000 10000 100000]

One clip is packed, and an index names copies of its record over and over, so that a split of any length takes no disk.
The decoder has the same bytes to decode for every length.
"""

import io
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from crc32c import crc32c

from benchmarks.command import argument_parser
from benchmarks.packing import pack, write_tree
from pipeline.format.index import INDEX_NAME, TABLE_NAME, ShardEntry, TableEntry
from pipeline.format.split import Split, open_split
from pipeline.format.table import FrameTable
from pipeline.loader import ClipLoader

NUM_FRAMES, BATCH = 16, 8
COPIES = 64  # of the record, which the clips share


def main() -> None:
    """Measure and print a row per length."""
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument("--clips", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--batches", type=int, default=15)
    arguments = parser.parse_args()
    print(f"{'clips':>8} {'open s':>8} {'first batch s':>14} {'CPU ms per clip':>16} {'RSS MiB':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotations = write_tree(folder, videos=1, frames=NUM_FRAMES, clip=NUM_FRAMES)
        pack(folder / "folders", annotations, folder / "shards", "data.check=header", "data.workers=1")
        one = open_split(folder / "shards" / "train")
        for num_clips in arguments.clips * arguments.rounds:
            write_split(one, num_clips, folder / "many")
            print(measure(folder / "many", num_clips, arguments.batches), flush=True)


def measure(folder: Path, num_clips: int, batches: int) -> str:
    """One row: seconds to open, seconds to the first batch, CPU ms per clip after it."""
    begin = time.perf_counter()
    with ClipLoader(folder, BATCH, NUM_FRAMES, num_threads=2) as loader:
        opened = time.perf_counter()
        running = iter(loader)
        next(running)
        first = time.perf_counter()
        next(running)
        cpu = time.process_time()
        for _ in range(batches):
            next(running)
        cpu_ms = (time.process_time() - cpu) / (batches * BATCH) * 1e3
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{num_clips:8} {opened - begin:8.3f} {first - opened:14.3f} {cpu_ms:16.2f} {rss:8.0f}"


def write_split(one: Split, num_clips: int, folder: Path) -> None:
    """A split of `num_clips` clips, each with one of a few copies of the record that `one` holds."""
    folder.mkdir(exist_ok=True)
    shard = one.shard_paths[0].read_bytes() * COPIES
    starts = np.arange(num_clips) % COPIES * (len(shard) // COPIES)
    table = replace(
        FrameTable.merge([one.table] * num_clips),
        clip_id=np.array([f"P01_101_{clip}" for clip in range(num_clips)], "S"),
        record_shard=np.zeros(num_clips, np.int32),
        record_offset=starts,
        offset=(starts[:, None, None] + one.table.offset).reshape(-1, one.table.offset.shape[1]),
    )
    with io.BytesIO() as stream:
        table.write(stream)
        data = stream.getvalue()
    entry = ShardEntry(name=one.shard_paths[0].name, bytes=len(shard), crc32c=crc32c(shard), clips=num_clips)
    changes = {"num_clips": num_clips, "num_frames": num_clips * NUM_FRAMES, "shards": [entry]}
    index = one.index.model_copy(update={**changes, "frames": TableEntry(bytes=len(data), crc32c=crc32c(data))})
    for name, content in ((entry.name, shard), (TABLE_NAME, data), (INDEX_NAME, index.to_json().encode())):
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
