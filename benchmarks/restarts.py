"""What JPEGs with restart markers cost and save: bytes, re-coding, trimming, and decoding what was cut out.

    python -m benchmarks.restarts FRAMES [--images 120] [--rounds 7] [--crop 224]

FRAMES holds <participant>/{rgb,flow}_frames/... as folders of JPEGs. Beside them stand the same with noise, of about
the bytes of EPIC-KITCHENS' frames (36 kB of RGB, 15 kB of grey). CPU time of the process, medians of interleaved
rounds, in microseconds per image; each window's pixels are compared first.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks.command import argument_parser
from benchmarks.noisy import KINDS
from pipeline.decoders.trim import Window, trim_into
from pipeline.decoders.turbojpeg import JpegWindows
from pipeline.profile.measure import interleave
from pipeline.profile.report import markdown_table
from preprocess.packing.jpeg import check_jpeg
from preprocess.packing.restarts import recode

Jpegs = list[bytes]


def main() -> None:
    """Print a table of all that is measured, one column per kind of image."""
    parser = argument_parser(__doc__, rounds=7)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--images", type=int, default=120, help="of each kind")
    parser.add_argument("--crop", type=int, default=224)
    arguments = parser.parse_args()
    columns = {}
    for name, kind in KINDS.items():
        paths = kind.paths(arguments.frames)
        natural = [path.read_bytes() for path in paths[:: max(1, len(paths) // arguments.images)]]
        noise = kind.noise_level(natural)
        noisy = [kind.with_noise(jpeg, noise, seed) for seed, jpeg in enumerate(natural)]
        columns[name] = measure(natural, kind.space, arguments.crop, arguments.rounds)
        columns[f"{name} with noise"] = measure(noisy, kind.space, arguments.crop, arguments.rounds)
    rows = [[what, *(column[what] for column in columns.values())] for what in columns["RGB"]]
    print(markdown_table(["", *columns], rows))


def measure(jpegs: Jpegs, space: str, crop: int, rounds: int) -> dict[str, str]:
    """Bytes and microseconds per image, by what is done to it."""
    recoded = [np.frombuffer(recode(jpeg), np.uint8) for jpeg in jpegs]
    random = np.random.default_rng(0)
    windows = [_window(jpeg, crop, random) for jpeg in jpegs]
    room = np.empty(2 * max(map(len, jpegs)), np.uint8)
    trimmed = [_trim(*images, room, space) for images in zip(recoded, windows, jpegs, strict=True)]
    scratch = JpegWindows(3, 0)._memory("pixels", 2**21)
    decode = partial(simplejpeg.decode_jpeg, colorspace=space, buffer=scratch)
    works: dict[str, tuple[Callable[..., object], Sequence[Any]]] = {
        "full check as packed untouched (Pillow, 1/8)": (partial(check_jpeg, decode=True), jpegs),
        "re-coding, compared coefficient for coefficient": (recode, jpegs),
        "trimming": (lambda pair: trim_into(pair[0], pair[1], room), list(zip(recoded, windows, strict=True))),
        "simplejpeg: the original whole": (decode, jpegs),
        "simplejpeg: the re-coded whole": (decode, recoded),
        "simplejpeg: trimmed": (decode, trimmed),
        "DALI decoders.image: the original whole": (dali_decoder(jpegs, space), [None]),
        "DALI decoders.image: trimmed": (dali_decoder(trimmed, space), [None]),
    }
    sizes = [statistics.mean(map(len, files)) for files in (jpegs, recoded, trimmed)]
    table = {"bytes": f"{sizes[0]:,.0f}", "bytes re-coded": f"{sizes[1]:,.0f} ({sizes[1] / sizes[0] - 1:+.1%})"}
    table["bytes trimmed"] = f"{sizes[2]:,.0f}"
    running = {what: _work(*work, len(jpegs)) for what, work in works.items()}
    taken = dict(interleave(running, rounds=rounds + 1, batches=1, warmup=0))  # the first round warms up
    return table | {what: f"{statistics.median(times.cpu_ms[1:]) * 1e3:.0f}" for what, times in taken.items()}


def _work(work: Callable[..., object], files: Sequence[Any], num_images: int) -> Iterator[int]:
    while True:
        for file in files:
            work(file)
        yield num_images


def _window(jpeg: bytes, crop: int, random: np.random.Generator) -> Window:
    height, width = check_jpeg(jpeg, decode=False)[:2]
    side = min(crop, height, width)
    return Window(int(random.integers(height - side + 1)), int(random.integers(width - side + 1)), side, side)


def _trim(
    jpeg: NDArray[np.uint8], window: Window, whole: bytes, room: NDArray[np.uint8], space: str
) -> NDArray[np.uint8]:
    trimmed = trim_into(jpeg, window, room)
    assert trimmed is not None
    small: NDArray[np.uint8] = room[: trimmed.size].copy()
    top, left, height, width = window
    expected = simplejpeg.decode_jpeg(whole, space)[top : top + height, left : left + width]
    found = simplejpeg.decode_jpeg(small, space)[trimmed.top :, trimmed.left :][:height, :width]
    np.testing.assert_array_equal(found, expected)
    return small


def dali_decoder(jpegs: Sequence[bytes | NDArray[np.uint8]], space: str) -> Callable[[object], object]:
    """Decode all of them as one batch on one thread."""
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    batch = [np.frombuffer(jpeg, np.uint8) for jpeg in jpegs]
    pipe = Pipeline(batch_size=len(batch), num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipe:
        files = fn.external_source(lambda: batch, no_copy=True)
        pipe.set_outputs(fn.decoders.image(files, output_type=types.RGB if space == "RGB" else types.GRAY))
    pipe.build()
    return lambda _: pipe.run()


if __name__ == "__main__":
    main()
