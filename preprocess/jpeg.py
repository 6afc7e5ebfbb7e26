"""Checks one JPEG: it starts, ends, names a size and channels that can be, and decodes."""

import io
from typing import NamedTuple

from PIL import Image

from pipeline.format import MAX_PIXELS

CHANNEL_NAMES = {1: "1 (grayscale)", 3: "3 (colour)", 4: "4 (CMYK)"}

_START, _END = b"\xff\xd8", b"\xff\xd9"
_FRAME_HEADERS = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_OTHER_FRAME_HEADERS = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # lossless, arithmetic, ...
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_SCAN, _END_CODE = 0xDA, 0xD9


class Picture(NamedTuple):
    """What a JPEG's header says."""

    height: int
    width: int
    channels: int


def check_jpeg(data: bytes, decode: bool) -> Picture:
    """Size and channels of a sound JPEG; ValueError says what is wrong with another."""
    if data[:2] != _START:
        raise ValueError("is no JPEG (it does not start with ff d8)" if data else "is empty")
    if data[-2:] != _END:
        raise ValueError("is cut off (it does not end with ff d9)")
    picture = _read_header(data)
    if decode:
        _decode(data, picture)
    return picture


def _read_header(data: bytes) -> Picture:
    """Walk the segments up to the frame header (SOF)."""
    position, end = 2, len(data) - 9  # a frame header has at least 9 bytes behind its first
    while position < end:
        code = data[position + 1]
        if data[position] != 0xFF:
            break
        if code == 0xFF:  # a fill byte
            position += 1
        elif code in _WITHOUT_LENGTH:
            position += 2
        elif code in _FRAME_HEADERS:
            return _parse_frame_header(data, position + 4)
        elif code in _OTHER_FRAME_HEADERS:
            raise ValueError("is a lossless or arithmetic JPEG; allowed: baseline or progressive")
        elif code in (_SCAN, _END_CODE):
            break
        else:
            position += 2 + max(2, data[position + 2] << 8 | data[position + 3])
    raise ValueError("is damaged (no frame header)")


def _parse_frame_header(data: bytes, position: int) -> Picture:
    precision, channels = data[position], data[position + 5]
    height = data[position + 1] << 8 | data[position + 2]
    width = data[position + 3] << 8 | data[position + 4]
    if precision != 8 or channels not in CHANNEL_NAMES:
        raise ValueError(f"has {channels} channels of {precision} bits; allowed: 1 or 3 of 8 bits")
    if height == 0 or width == 0 or height * width > MAX_PIXELS:
        raise ValueError(f"says that it is {width}x{height}; allowed: up to {MAX_PIXELS} pixels")
    return Picture(height, width, channels)


def _decode(data: bytes, picture: Picture) -> None:
    """Decode every coefficient, at an eighth of the size: as thorough for the data, and cheaper."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            image.draft(None, (max(1, picture.width // 8), max(1, picture.height // 8)))
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"does not decode ({error})") from None
