"""What a large split costs: opening it, and each batch, for indexes of a thousand to a hundred thousand clips.

    python benchmarks/large_index.py [--clips 1000 10000 100000]

A few records are written, and the index names them over and over, so that a
split of any length takes no disk. The decoder has the same bytes to decode for every length.
"""

import argparse
import io
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from crc32c import crc32c
from PIL import Image

from pipeline.format.index import INDEX_NAME, TABLE_NAME, Index, ShardEntry, TableEntry, Target
from pipeline.format.streams import STREAMS
from pipeline.format.table import FrameTable
from pipeline.format.tfrecord import ClipFields, encode_record, stored_crc
from pipeline.loader import ClipLoader

NUM_FRAMES, HEIGHT, WIDTH, BATCH = 16, 256, 456, 8


def main() -> None:
    """Measure and print a row a length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--batches", type=int, default=15)
    arguments = parser.parse_args()
    print(f"{'clips':>8} {'open s':>8} {'first batch s':>14} {'CPU ms a clip':>14} {'RSS MiB':>8}")
    for num_clips in arguments.clips:
        with tempfile.TemporaryDirectory() as folder:
            write_split(Path(folder), num_clips)
            print(measure(Path(folder), num_clips, arguments.batches), flush=True)


def measure(folder: Path, num_clips: int, batches: int) -> str:
    """One row: seconds to open, seconds to the first batch, CPU ms a clip after it."""
    begin = time.perf_counter()
    loader = ClipLoader(folder, BATCH, NUM_FRAMES, num_threads=2)
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
    loader.close()
    return f"{num_clips:8} {opened - begin:8.3f} {first - opened:14.3f} {cpu_ms:14.2f} {rss:8.0f}"


def write_split(folder: Path, num_clips: int) -> None:
    """A split whose clips all have the bytes of one, each at a place of its own in a sparse shard."""
    rng = np.random.default_rng(0)
    jpegs = [[picture(rng, 3), picture(rng, 1), picture(rng, 1)] for _ in range(NUM_FRAMES)]
    numbers = list(range(1, NUM_FRAMES + 1))
    record, places = encode_record(
        ClipFields(*("clip", "P01_101", "P01", 1, 16, HEIGHT, WIDTH), {"label": 0}, {"rgb": numbers, "flow": numbers}),
        jpegs,
    )
    copies = min(num_clips, 64)  # as many whole records stand in the file; the clips share them
    (folder / "00000.tfrecord").write_bytes(record * copies)
    table = table_of(num_clips, record, places, jpegs, copies)
    with io.BytesIO() as stream:
        table.write(stream)
        data = stream.getvalue()
    (folder / TABLE_NAME).write_bytes(data)
    shard = ShardEntry(
        name="00000.tfrecord", bytes=len(record) * copies, crc32c=crc32c(record * copies), clips=num_clips
    )
    index = Index(
        split="train",
        num_clips=num_clips,
        num_frames=num_clips * NUM_FRAMES,
        streams=table.streams,
        targets=(Target(name="label"),),
        shards=[shard],
        frames=TableEntry(bytes=len(data), crc32c=crc32c(data)),
    )
    (folder / INDEX_NAME).write_text(index.to_json())


def table_of(num_clips: int, record: bytes, places: np.ndarray, jpegs: list[list[bytes]], copies: int) -> FrameTable:
    """The frame table of `num_clips` clips that share `copies` records."""
    begins = (np.arange(num_clips) % copies) * len(record)
    numbers = np.tile(np.arange(1, NUM_FRAMES + 1, dtype=np.int32), num_clips)
    same = {"start_frame": 1, "stop_frame": 16, "height": HEIGHT, "width": WIDTH, "num_frames": NUM_FRAMES}
    same |= {"record_shard": 0, "record_size": len(record), "record_crc": stored_crc(record), "targets": 0}
    per_file = {
        name: np.tile([[number(jpeg) for jpeg in row] for row in jpegs], (num_clips, 1))
        for name, number in (("size", len), ("crc", crc32c))
    }
    values = {
        "clip_id": [f"P01_101_{clip}" for clip in range(num_clips)],
        "video_id": ["P01_101"] * num_clips,
        "participant_id": ["P01"] * num_clips,
        **{name: np.full(num_clips, value) for name, value in same.items()},
        "record_offset": begins,
        "frame_index": np.stack([numbers, numbers], axis=1),
        "offset": begins[:, None, None] + places[None],
        **per_file,
    }
    return FrameTable.of(tuple(STREAMS.values()), 1, values)


def picture(rng: np.random.Generator, channels: int) -> bytes:
    """A JPEG of the size and about the bytes of EPIC's frames."""
    shape = (32, 57, 3) if channels == 3 else (32, 57)
    coarse = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    stream = io.BytesIO()
    coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=75)
    return stream.getvalue()


if __name__ == "__main__":
    main()
