"""Trimming of a JPEG to the part of its stream that a window needs, pixels unchanged."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.decoders.jpeg_stream import Bytes, compiled, walk_header

# Where the only bit of a 64-bit word stands: a de Bruijn sequence times the word has that number in its highest six.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT = np.argsort([(int(_DE_BRUIJN) << bit & 2**64 - 1) >> 58 for bit in range(64)])


class Window(NamedTuple):
    """A rectangle of pixels within an image."""

    top: int
    left: int
    height: int
    width: int


class Trimmed(NamedTuple):
    """A JPEG of `size` bytes and height x width pixels; the window's corner lies at (top, left) of them."""

    size: int
    height: int
    width: int
    top: int
    left: int


def trim_into(jpeg: Bytes, window: Window, out: Bytes) -> Trimmed | None:
    """Write to the start of `out` a JPEG that has the window; None: decode the whole instead.

    Of any JPEG what lies below the window is cut off: its header says that it is lower. Where restart markers stand at
    the ends of its rows of MCUs, so is the rest. A stretch between two markers can be decoded without those before it:
    only the stretches that lie in the window are copied, after the header with a new size, and their markers are
    numbered anew. What decodes to the very pixels of the whole image is what a window and, where chroma is subsampled,
    one pixel around it need.

    None is for a JPEG with several scans (progressive), or EXIF, by which some decoders turn it; and for one whose
    markers are not as they should be. Whatever the bytes, none outside `jpeg` and `out` is touched. The GIL is held for
    a few microseconds alone.

    Args:
        jpeg: uint8 [N], one image.
        window: within the image.
        out: uint8 [at least N].

    Raises:
        ValueError: `out` is too small, or the window does not lie within the image.
    """
    if len(out) < len(jpeg):
        raise ValueError(f"trimming {len(jpeg)} bytes needs room for as many, found {len(out)}")
    trimmed = Trimmed(*trim(jpeg, walk_header(jpeg), *window, out))
    if trimmed.size < 0:
        raise ValueError(f"{tuple(window)} does not lie within {trimmed.height} x {trimmed.width} pixels")
    return trimmed if trimmed.size else None


def warm_up() -> None:
    """Compile, or load what was compiled before: some seconds the first time on a machine."""
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8), [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1]
    encoded = np.frombuffer(jpeg.tobytes(), np.uint8)  # read-only, as mapped files are
    trim_into(encoded, Window(0, 0, 8, 8), np.empty(len(encoded), np.uint8))


@compiled
def trim(
    jpeg: Bytes, header: NDArray[np.int64], top: int, left: int, height: int, width: int, out: Bytes
) -> tuple[int, int, int, int, int]:
    """The fields of Trimmed, by the header that `walk_header` found.

    A size of 0: decode the whole; below 0: the window does not lie within the image, of height x width pixels.
    """
    frame, scan, image_height, image_width = header[1], header[2], header[3], header[4]
    mcu_height, mcu_width, interval = header[6], header[7], header[8]
    if header[0] != 0 or header[9] != 0:
        return 0, 0, 0, 0, 0
    if min(top, left) < 0 or min(height, width) < 1 or top + height > image_height or left + width > image_width:
        return -1, image_height, image_width, 0, 0
    margin = 1 if mcu_height * mcu_width > 64 else 0
    last_row = -(-min(image_height, top + height + margin) // mcu_height)
    mcus_per_row = -(-image_width // mcu_width)
    if interval == 0 or mcus_per_row % interval != 0:
        first_row = first = 0
        right = image_width
        _copy(jpeg, 0, len(jpeg), out, 0)
        size = len(jpeg)
    else:
        segment_width, per_row = mcu_width * interval, mcus_per_row // interval
        first_row = max(0, top - margin) // mcu_height
        first = max(0, left - margin) // segment_width
        last = -(-min(image_width, left + width + margin) // segment_width)
        # libjpeg does not interpolate chroma that is one or two samples wide.
        if min(image_width, last * segment_width) - first * segment_width <= mcu_width // 4 and first > 0:
            first -= 1
        num_segments = per_row * -(-image_height // mcu_height)
        markers = _find_markers(jpeg, scan, num_segments, (last_row - 1) * per_row + last)
        if len(markers) == 0:
            return 0, 0, 0, 0, 0
        size = _copy_segments(jpeg, scan, markers, per_row, first_row, last_row, first, last, out)
        right = min(image_width, last * segment_width)
        first *= segment_width
    lower, narrower = min(image_height, last_row * mcu_height) - first_row * mcu_height, right - first
    out[frame + 5], out[frame + 6] = lower >> 8, lower & 255
    out[frame + 7], out[frame + 8] = narrower >> 8, narrower & 255
    return size, lower, narrower, top - first_row * mcu_height, left - first


@compiled
def _find_markers(jpeg: Bytes, scan: int, num_segments: int, needed: int) -> NDArray[np.int64]:
    """Positions of the first `needed` of the markers that end each segment; none if they are not as they should be."""
    none = np.empty(0, np.int64)
    if 2 * needed > len(jpeg) - scan:
        return none
    markers = np.empty(needed + 64, np.int64)
    found = 0
    position, end, one = np.uintp(scan), np.uintp(len(jpeg) - 1), np.uintp(1)  # see _copy
    while found < needed:
        # A bit for each byte, which takes a third of looking at one after the other.
        bits = np.uint64(0)
        if position + np.uintp(64) <= end:
            for offset in range(64):
                at = position + np.uintp(offset)
                bits |= np.uint64((jpeg[at] == 0xFF) & (jpeg[at + one] != 0)) << np.uint64(offset)
        elif position < end:
            for offset in range(end - position):
                at = position + np.uintp(offset)
                bits |= np.uint64((jpeg[at] == 0xFF) & (jpeg[at + one] != 0)) << np.uint64(offset)
        else:
            return none
        while bits != 0:
            lowest = bits & (~bits + np.uint64(1))
            markers[found] = np.int64(position) + _BIT[(lowest * _DE_BRUIJN) >> np.uint64(58)]
            found += 1
            bits ^= lowest
        position += np.uintp(64)
    for segment in range(needed):
        expected = 0xD9 if segment == num_segments - 1 else 0xD0 + segment % 8
        if jpeg[markers[segment] + 1] != expected:
            return none
    return markers


@compiled
def _copy_segments(
    jpeg: Bytes,
    scan: int,
    markers: NDArray[np.int64],
    per_row: int,
    first_row: int,
    last_row: int,
    first: int,
    last: int,
    out: Bytes,
) -> int:
    """Copy the header and of each row of `per_row` segments those from `first` to `last`; the bytes written."""
    _copy(jpeg, 0, scan, out, 0)
    written, kept = scan, 0
    for row in range(first_row * per_row, last_row * per_row, per_row):
        begin = markers[row + first - 1] + 2 if row + first > 0 else scan
        end = markers[row + last - 1] + 2
        _copy(jpeg, begin, end, out, written)
        for segment in range(row + first, row + last):
            out[written + markers[segment] + 1 - begin] = 0xD0 + kept % 8
            kept += 1
        written += end - begin
    out[written - 1] = 0xD9
    return written


@compiled
def _copy(source: Bytes, begin: int, end: int, out: Bytes, target: int) -> None:
    # Numba asks of each signed index whether it counts from the end, which keeps a loop from becoming a block copy.
    for offset in range(end - begin):
        out[np.uintp(target + offset)] = source[np.uintp(begin + offset)]
