"""JPEG check: start, end, size and channels in the header, and whether it decodes."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from PIL import Image

from pipeline.format.streams import MAX_PIXELS

CHANNEL_NAMES = {1: "1 (grayscale)", 3: "3 (colour)", 4: "4 (CMYK)"}

MAX_SEGMENTS = 2000  # before the image; colour profiles and previews of cameras take some hundreds

_START, _END = b"\xff\xd8", b"\xff\xd9"
_FRAME_HEADERS = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_OTHER_FRAME_HEADERS = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # lossless, arithmetic, ...
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_SCAN, _END_CODE, _APP1 = 0xDA, 0xD9, 0xE1
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a scan: what is neither a byte ff nor a restart
_EXIF = b"Exif\0\0"


class JpegHeader(NamedTuple):
    """What a JPEG's header says."""

    height: int
    width: int
    channels: int


def check_jpeg(data: bytes, decode: bool) -> JpegHeader:
    """Size and channels of a sound JPEG; ValueError says what is wrong with another.

    Bytes after the end are no fault: cameras pad files, and append previews and notes of their own.
    """
    if data[:2] != _START:
        raise ValueError("is no JPEG (it does not start with ff d8)" if data else "is empty")
    header, code, position = None, 0, 0
    for code, position in _segments(data):
        if code in _FRAME_HEADERS and header is None:
            header = _parse_frame_header(data, position)
        elif code in _OTHER_FRAME_HEADERS:
            raise ValueError("is a lossless or arithmetic JPEG; allowed: baseline or progressive")
    if data[-2:] != _END and not (code == _SCAN and _ends(data, position)):
        raise ValueError("is cut off (it does not end with ff d9)")
    if header is None:
        raise ValueError("is damaged (no frame header)")
    if decode:  # every coefficient, at an eighth of the size: as thorough for the data, and cheaper
        with opened(data) as image:
            image.draft(None, (max(1, header.width // 8), max(1, header.height // 8)))
            image.load()
    return header


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """A JPEG as Pillow reads it; ValueError where it does not decode, in the body, too."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"does not decode ({error})") from None


def exif_orientation(data: bytes) -> int:
    """EXIF orientation, 1 to 8: how a viewer turns the image; 1 where nothing is said."""
    for code, position in _segments(data):
        if code == _APP1 and data[position + 2 : position + 8] == _EXIF:
            return _orientation(data[position + 8 : position + int.from_bytes(data[position : position + 2], "big")])
    return 1


def _orientation(tiff: bytes) -> int:
    """The tag 0x0112 of a TIFF's first directory."""
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
    start = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[start : start + 2], order)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        if int.from_bytes(tiff[entry : entry + 2], order) == 0x0112:
            value = int.from_bytes(tiff[entry + 8 : entry + 10], order)
            return value if 1 <= value <= 8 else 1
    return 1


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Code and position (of the length) of each sound segment up to the first scan."""
    position, end = 2, len(data) - 9  # a frame header has at least 9 bytes after its first
    num_segments = 0
    while position < end and data[position] == 0xFF:
        code = data[position + 1]
        if code == 0xFF:  # a fill byte
            position += 1
            continue
        if code in _WITHOUT_LENGTH:
            position += 2
            continue
        if code == _END_CODE:
            return
        yield code, position + 2
        if code == _SCAN:
            return
        position += 2 + max(2, data[position + 2] << 8 | data[position + 3])
        num_segments += 1
        if num_segments > MAX_SEGMENTS:
            raise ValueError(f"has more than {MAX_SEGMENTS} segments before its image; is it one?")


def _ends(data: bytes, position: int) -> bool:
    """Whether ff d9 follows the scans, the first of which has its header's length at `position`."""
    for _ in range(MAX_SEGMENTS):
        position += int.from_bytes(data[position : position + 2], "big")  # past the header, or a table between scans
        match = _MARKER.search(data, position)
        if match is None or data[match.end() - 1] == _END_CODE:
            return match is not None
        position = match.end()
    return False


def _parse_frame_header(data: bytes, position: int) -> JpegHeader:
    position += 2  # past the length
    precision, channels = data[position], data[position + 5]
    height = data[position + 1] << 8 | data[position + 2]
    width = data[position + 3] << 8 | data[position + 4]
    if precision != 8 or channels not in CHANNEL_NAMES:
        raise ValueError(f"has {channels} channels of {precision} bits; allowed: 1 or 3 of 8 bits")
    if height == 0 or width == 0 or height * width > MAX_PIXELS:
        raise ValueError(f"says that it is {width}x{height}; allowed: up to {MAX_PIXELS} pixels")
    return JpegHeader(height, width, channels)
