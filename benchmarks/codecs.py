"""How much faster pixels are loaded than JPEGs of the same clips, from a warm cache, and whether they are the same.

    python benchmarks/codecs.py JPEG_SPLIT RAW_SPLIT [--rounds 5] [--batches 40]

Pack the same annotations twice, once with data.codec=raw and another data.shards. The rounds are interleaved.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline.format.split import open_split
from pipeline.loader import ClipLoader
from pipeline.profile.measure import Timings, interleave


def main() -> None:
    """Compare pixels, then measure and print a row a codec, and the ratios of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("splits", type=Path, nargs=2, metavar="SPLIT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-threads", type=int, default=2)
    arguments = parser.parse_args()
    loaders = {
        f"{split} ({open_split(split).codec})": ClipLoader(
            split, arguments.batch_size, num_threads=arguments.num_threads, temporal="jitter"
        )
        for split in arguments.splits
    }
    one, two = loaders.values()
    print(f"pixels of two epochs, {count_equal(one, two)} clips: equal")
    candidates = {name: batches(loader) for name, loader in loaders.items()}
    rounds = dict(interleave(candidates, rounds=arguments.rounds, batches=arguments.batches, warmup=5))
    for (name, result), split in zip(rounds.items(), arguments.splits, strict=True):
        table = open_split(split).table
        figures = result.summary()
        print(
            f"{name}: {figures['clips_per_s']:.0f} clips/s ({figures['clips_per_s_min']:.0f} to "
            f"{figures['clips_per_s_max']:.0f}), {figures['cpu_ms_per_clip']:.2f} CPU ms a clip "
            f"({figures['cpu_ms_per_clip_min']:.2f} to {figures['cpu_ms_per_clip_max']:.2f}), "
            f"{table.size.sum() / len(table) / 1e6:.2f} MB a clip"
        )
    first, second = rounds.values()
    print(f"the second over the first: {ratios(first, second)}")


def count_equal(one: ClipLoader, two: ClipLoader) -> int:
    """Clips of two epochs, all of whose pixels are the same in both."""
    clips = 0
    for _ in range(2):
        for a, b in zip(one, two, strict=True):
            for first, second in ((a.rgb, b.rgb), (a.flow, b.flow)):
                if first is None or second is None or not torch.equal(first, second):
                    raise SystemExit(f"the pixels of clips {a.clips.tolist()} differ")
            clips += len(a)
    return clips


def batches(loader: ClipLoader) -> Iterator[int]:
    """Endless batches; yields the number of clips of each."""
    while True:
        for batch in loader:
            yield len(batch)


def ratios(first: Timings, second: Timings) -> str:
    """Clips a second and CPU time, round by round."""
    speed = [b / a for a, b in zip(first.clips_per_s, second.clips_per_s, strict=True)]
    cpu = [a / b for a, b in zip(first.cpu_ms, second.cpu_ms, strict=True)]
    return ", ".join(
        f"{statistics.median(values):.1f} x ({min(values):.1f} to {max(values):.1f}) {what}"
        for values, what in ((speed, "the clips/s"), (cpu, "less CPU time"))
    )


if __name__ == "__main__":
    main()
