"""Little videos, made by PyAV: a texture that moves as told, at the moments told, in any container and codec."""

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
    path: Path,
    frames: Sequence[NDArray[np.uint8]],
    rate: int = 25,
    times: Sequence[int] | None = None,
    codec: str = "mpeg4",
    sound: int | None = None,
    b_frames: int = 0,
    **options: str,
) -> Path:
    """Encode frames, nearly without loss.

    Args:
        path: the file; its ending says which container.
        frames: [H, W, 3] each.
        rate: frames per second.
        times: of the frames in milliseconds, for a rate that varies (in Matroska).
        codec: of the video; libx264 has B-frames.
        sound: milliseconds at which the video begins after a second of silence's begin; None: no sound.
        b_frames: between others, for codecs that have none by default.
        options: of the container.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, rate) if times is None and sound is None else MILLISECOND
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, options={"crf": "4"} if codec == "libx264" else {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.qmin, stream.codec_context.qmax = 1, 2
        stream.codec_context.time_base = base
        stream.codec_context.max_b_frames = b_frames or stream.codec_context.max_b_frames
        if sound is not None:
            _add_silence(container)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            shown = (sound or 0) + round(number / rate / MILLISECOND)
            frame.pts = times[number] if times is not None else number if sound is None else shown
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _add_silence(container: av.container.OutputContainer, rate: int = 8000) -> None:
    stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
    frame = av.AudioFrame.from_ndarray(np.zeros((1, rate), np.int16), format="s16", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    container.mux(stream.encode(frame))


# Where an .mp4 has its display matrix; a, b, u, c, d, v, x, y, w in 16.16 and (u, v, w) 2.30 fixed point
MATRICES = {
    "clockwise": (0, 1, -1, 0),  # as telephones do
    "half": (-1, 0, 0, -1),
    "counterclockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed, half": (0, -1, -1, 0),
}


def turn(path: Path, how: str = "clockwise") -> Path:
    """Say in an .mp4's header that it is to be shown turned or mirrored."""
    data = bytearray(path.read_bytes())
    matrix = data.find(b"tkhd") + 44  # after version and flags, times, id, duration, layer, group and volume
    assert struct.unpack_from(">9i", data, matrix) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    a, b, c, d = (65536 * value for value in MATRICES[how])
    struct.pack_into(">9i", data, matrix, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def trim(path: Path, new: Path, start: int) -> Path:
    """Cut the first `start` frames off an .mp4 without encoding it anew: an edit list hides them, as in `-c copy`."""
    with av.open(str(path)) as container, av.open(str(new), "w") as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream)
        shift = round(start / stream.average_rate / stream.time_base)
        for packet in container.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                output.mux(packet)
    return new
