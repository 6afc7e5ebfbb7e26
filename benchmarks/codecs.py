"""Loaders beside one another: each split (one per codec) through each decoder, pixels compared, then CPU time.

    python -m benchmarks.codecs SPLIT... [--decoders turbojpeg dali] [--scale 0.7 1.0] [--color 0.4] [--rounds 5]
        [--batches 40]

Pack the same annotations once per data.codec, into a data.shards each. The page cache is warm, the rounds are
interleaved, and the ratios are to the first row, round by round. For plain crops there is a row more: what one would
write by hand, threads that decode the whole images of the first split by simplejpeg.
"""

from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.command import argument_parser
from benchmarks.rivals import simplejpeg_threads
from benchmarks.rivals.base import Task
from pipeline.format.split import open_split
from pipeline.loader import ClipLoader
from pipeline.profile.measure import interleave, ratios
from pipeline.profile.report import markdown_table, spread
from pipeline.profile.stages import loader_batches

BY_HAND = "by hand: simplejpeg in threads"


def main() -> None:
    """Compare pixels, then measure and print a row per split and decoder."""
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument("splits", type=Path, nargs="+", metavar="SPLIT")
    parser.add_argument("--decoders", nargs="+", default=["auto"], help="values of loader.decoder")
    parser.add_argument("--scale", type=float, nargs=2, default=(1.0, 1.0), help="clip.scale")
    parser.add_argument("--color", type=float, default=0.0, help="clip.color")
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-threads", type=int, default=2)
    arguments = parser.parse_args()
    options = {"num_threads": arguments.num_threads, "scale": tuple(arguments.scale), "temporal": "jitter"}
    options["color"] = arguments.color
    loaders, sizes = {}, {}
    for path, decoder in product(arguments.splits, arguments.decoders):
        split = open_split(path)
        name = f"`{split.codec}` through `{decoder}`"
        loaders[name] = ClipLoader(path, arguments.batch_size, decoder=decoder, **options)
        sizes[name] = split.table.size.sum() / len(split.table) / 1e6
    first, *others = loaders.values()
    apart = max((largest_difference(first, other) for other in others), default=0)
    print(f"Pixels of an epoch of {len(first.clip_ids)} clips: at most {apart} levels from those of the first row.\n")
    smallest = min(first.table.height.min(), first.table.width.min())
    plain = options["scale"] == (1.0, 1.0) and smallest >= first.options.crop_size and not arguments.color
    # A level of resizing is scaled by the colour's factors: brightness, contrast, saturation (at most 1 + 0.7 of it).
    most = 0 if plain else round((1 + arguments.color) ** 2 * (1 + 1.7 * arguments.color)) + (arguments.color > 0)
    if apart > most:
        raise SystemExit("those are too many: two decoders disagree, or the splits hold other clips")
    running = {name: loader_batches(loader) for name, loader in loaders.items()}
    if plain:
        split = open_split(arguments.splits[0])
        task = Task(split, Path(), Path(), 16, 224, arguments.batch_size, arguments.num_threads, prefetch=2)
        running[BY_HAND] = (len(batch.clips) for batch in simplejpeg_threads.batches(task))
        sizes[BY_HAND] = next(iter(sizes.values()))
    taken = dict(interleave(running, rounds=arguments.rounds, batches=arguments.batches, warmup=5))
    base, rate = next(iter(taken.values())).cpu_ms, next(iter(taken.values())).clips_per_s
    rows = [
        [
            name,
            f"{sizes[name]:.2f}",
            spread(timings.cpu_ms, ".2f"),
            spread(timings.clips_per_s, ".0f"),
            spread(ratios(timings.cpu_ms, base), ".2f"),
            spread(ratios(rate, timings.clips_per_s), ".2f"),
        ]
        for name, timings in taken.items()
    ]
    print(
        markdown_table(
            [
                "",
                "MB per clip",
                "CPU ms per clip",
                "clips/s",
                "CPU time over the first's",
                "wall time over the first's",
            ],
            rows,
        )
    )


def largest_difference(one: ClipLoader, other: ClipLoader) -> int:
    """How many levels any pixel of an epoch differs; both loaders are put back to its beginning."""
    states = [(loader, loader.state_dict()) for loader in (one, other)]
    most = 0
    for a, b in zip(one, other, strict=True):
        for x, y in ((a.rgb, b.rgb), (a.flow, b.flow)):
            assert x is not None
            assert y is not None
            most = max(most, int(np.abs(x.numpy().astype(np.int16) - y.numpy()).max()))
    for loader, state in states:
        loader.load_state_dict(state)
    return most


if __name__ == "__main__":
    main()
