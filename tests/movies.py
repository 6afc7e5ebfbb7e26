"""Little videos, made by PyAV: a texture that moves as told, at the moments told."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

MILLISECOND = Fraction(1, 1000)


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth light and dark of one warm colour, which a video keeps at half the resolution: [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6), dtype=np.uint8)
    gray = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.round(gray[..., None] * np.array([1.0, 0.8, 0.6])).astype(np.uint8)


def moving(
    steps: Sequence[tuple[int, int]], height: int = 64, width: int = 96, seed: int = 0
) -> list[NDArray[np.uint8]]:
    """Frames of a texture: before the first nothing, then each step moves it by (right, down) pixels."""
    margin = 40 + sum(max(abs(right), abs(down)) for right, down in steps)
    whole = texture(height + 2 * margin, width + 2 * margin, seed)
    right = np.cumsum([0, *(step[0] for step in steps)])
    down = np.cumsum([0, *(step[1] for step in steps)])
    return [
        whole[margin - y : margin - y + height, margin - x : margin - x + width]
        for x, y in zip(right.tolist(), down.tolist(), strict=True)
    ]


def write_movie(
    path: Path, frames: Sequence[NDArray[np.uint8]], rate: int = 25, times: Sequence[int] | None = None, **options: str
) -> Path:
    """Encode frames, nearly without loss; `times` are milliseconds, for a rate that varies (in Matroska)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.qmin, stream.codec_context.qmax = 1, 2
        if times is not None:
            stream.codec_context.time_base = MILLISECOND
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, rate) if times is None else MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn(path: Path) -> Path:
    """Say in an .mp4's header that it is to be shown turned by a quarter clockwise, as telephones do."""
    data = bytearray(path.read_bytes())
    matrix = data.find(b"tkhd") + 44  # behind version and flags, times, id, duration, layer, group and volume
    assert struct.unpack_from(">9i", data, matrix) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, matrix, 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
