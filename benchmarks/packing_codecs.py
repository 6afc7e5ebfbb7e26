"""What packing as each data.codec costs beside plain JPEGs with the full check: CPU time and bytes.

    python -m benchmarks.packing_codecs FRAMES ANNOTATIONS [--rounds 3]

All frames of the annotated clips are packed (data.frames_per_clip=all) by one process. CPU time is that of the whole
command less that of one which packs the first clip alone, so that starting Python and loading Numba, which takes as
long as packing a thousand files, does not count. benchmarks.noisy makes FRAMES of as many bytes as EPIC-KITCHENS' own.
"""

import tempfile
from functools import partial
from pathlib import Path

from benchmarks.command import argument_parser
from benchmarks.packing import Runs, pack, take
from pipeline.format.split import open_split
from pipeline.profile.measure import ratios
from pipeline.profile.report import markdown_table, spread

CODECS = ("jpeg", "jpeg-restarts")


def main() -> None:
    """Pack in interleaved rounds, after one that compiles, and print a table."""
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("frames", type=Path)
    parser.add_argument("annotations", type=Path)
    arguments = parser.parse_args()
    frames, annotations = arguments.frames.resolve(), arguments.annotations.resolve()
    with tempfile.TemporaryDirectory() as folder:
        shards, first = Path(folder), Path(folder) / "first.csv"
        first.write_text("".join(annotations.open().readlines()[:2]))
        runs: dict[str, Runs] = {codec: Runs() for codec in CODECS}
        for number in range(arguments.rounds + 1):
            for codec, taken in runs.items():
                options = (shards / codec, f"data.codec={codec}", "data.workers=1")
                one, whole = Runs(), taken if number else Runs()  # the first round compiles
                take(partial(pack, frames, first, *options), one)
                take(partial(pack, frames, annotations, *options), whole)
                whole.cpu[-1] -= one.cpu[-1]
        tables = {codec: open_split(shards / codec / "train").table for codec in CODECS}
    num_bytes = {codec: int(table.size.sum()) for codec, table in tables.items()}
    rows = [
        [
            f"`{codec}`",
            f"{num_bytes[codec] / 1e6:.1f} ({num_bytes[codec] / num_bytes[CODECS[0]]:.3f})",
            spread(taken.cpu, ".2f"),
            spread(ratios(taken.cpu, runs[CODECS[0]].cpu), ".2f"),
        ]
        for codec, taken in runs.items()
    ]
    print(f"{tables[CODECS[0]].size.size:,} JPEGs.\n")
    print(markdown_table(["`data.codec`", "MB", "CPU s", "over `jpeg`'s"], rows))


if __name__ == "__main__":
    main()
