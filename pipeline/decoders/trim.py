"""Trimming of a JPEG with restart markers to the part that a window needs, pixels unchanged."""

from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from pipeline.decoders.jpeg_stream import Bytes, JpegHeader, compiled, read_header
from pipeline.decoders.turbojpeg import JpegWindows
from pipeline.reader import EncodedFrame
from pipeline.sampler import View


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

    A stretch between two restart markers can be decoded without those before it. Only the stretches that lie in the
    window are copied, after the header with a new size, and their markers are numbered anew. What decodes to the very
    pixels of the whole image is what a window and, where chroma is subsampled, one pixel around it need.

    None is for a JPEG without restart markers at the ends of its rows of MCUs, with several scans (progressive), or
    EXIF, by which some decoders turn it; and for one whose markers are not as they should be. Whatever the bytes, none
    outside `jpeg` and `out` is touched. The GIL is held for a few microseconds alone.

    Args:
        jpeg: uint8 [N], one image.
        window: within the image.
        out: uint8 [at least N + 2].

    Raises:
        ValueError: `out` is too small, or the window does not lie within the image.
    """
    if len(out) < len(jpeg) + 2:
        raise ValueError(f"trimming {len(jpeg)} bytes needs room for 2 more, found {len(out)}")
    header = read_header(jpeg)
    if header.refusal or header.has_exif or not header.interval or header.mcus_per_row % header.interval:
        return None
    rows, segments = _segments_of(header, window)
    size = copy_segments(
        jpeg, header.scan, header.mcus_per_row // header.interval, header.num_rows, *rows, *segments, out
    )
    if size == 0:
        return None
    top, left = rows[0] * header.mcu_height, segments[0] * header.mcu_width * header.interval
    height = min(header.height, rows[1] * header.mcu_height) - top
    width = min(header.width, segments[1] * header.mcu_width * header.interval) - left
    size_at = header.frame + 5
    out[size_at : size_at + 4] = (height >> 8, height & 255, width >> 8, width & 255)
    return Trimmed(size, height, width, window.top - top, window.left - left)


class TrimmedWindows(JpegWindows):
    """Windows of JPEGs with restart markers, cut out before they are decoded.

    JPEGs without such markers are decoded whole.
    """

    def __init__(self, channels: int, frame_bytes: int) -> None:
        super().__init__(channels, frame_bytes)
        self._channels = channels
        warm_up()

    def __call__(self, encoded: EncodedFrame, view: View) -> Bytes:
        """The window, [side, side, C]; ValueError says why the JPEG does not decode."""
        assert isinstance(encoded, np.ndarray)
        room = self._room(len(encoded) + 2)
        trimmed = trim_into(encoded, Window(view.top, view.left, view.side, view.side), room)
        if trimmed is None:
            return super().__call__(encoded, view)
        scratch = self._scratch(trimmed.height * trimmed.width * self._channels)
        frame = simplejpeg.decode_jpeg(room[: trimmed.size], self._colors, buffer=scratch, strict=False)
        window: Bytes = frame[trimmed.top : trimmed.top + view.side, trimmed.left : trimmed.left + view.side]
        return window

    def _room(self, num_bytes: int) -> Bytes:
        if not hasattr(self._own, "room") or len(self._own.room) < num_bytes:
            self._own.room = np.empty(2 * num_bytes, np.uint8)
        room: Bytes = self._own.room
        return room


def warm_up() -> None:
    """Compile, or load what was compiled before: some seconds the first time on a machine."""
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8), [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1]
    encoded = np.frombuffer(jpeg.tobytes(), np.uint8)  # read-only, as mapped files are
    trim_into(encoded, Window(0, 0, 8, 8), np.empty(len(encoded) + 2, np.uint8))


def _segments_of(header: JpegHeader, window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows of MCUs (begin, end) and, in each of them, segments between markers (begin, end)."""
    top, left, height, width = window
    if min(top, left) < 0 or min(height, width) < 1 or top + height > header.height or left + width > header.width:
        raise ValueError(f"{tuple(window)} does not lie within {header.height} x {header.width} pixels")
    margin = 1 if header.is_subsampled else 0
    segment_width = header.mcu_width * header.interval
    first = max(0, left - margin) // segment_width
    last = -(-min(header.width, left + width + margin) // segment_width)
    # libjpeg does not interpolate chroma that is one or two samples wide.
    if min(header.width, last * segment_width) - first * segment_width <= header.mcu_width // 4 and first > 0:
        first -= 1
    first_row = max(0, top - margin) // header.mcu_height
    last_row = -(-min(header.height, top + height + margin) // header.mcu_height)
    return (first_row, last_row), (first, last)


@compiled
def copy_segments(
    jpeg: Bytes, scan: int, per_row: int, num_rows: int, row: int, end_row: int, first: int, last: int, out: Bytes
) -> int:
    """Copy the header and of each row of `per_row` segments those from `first` to `last`; the bytes written, or 0."""
    _copy(jpeg, 0, scan, out, 0)
    written = begin = scan
    marks = np.empty(last - first, np.int64)  # where the markers of the stretch that is being kept will lie in `out`
    segment, column, kept, needed = 0, 0, 0, (end_row - 1) * per_row + last
    position, one, end = np.uintp(scan), np.uintp(1), np.uintp(len(jpeg) - 1)  # see _copy
    while position < end:
        if jpeg[position] != 0xFF or jpeg[position + one] == 0:
            position += one
            continue
        if jpeg[position + one] != (0xD9 if segment == per_row * num_rows - 1 else 0xD0 + segment % 8):
            return 0
        after = np.int64(position) + 2
        if first <= column < last:
            marks[column - first] = written + after - begin
        if column == last - 1 and segment >= row * per_row:
            _copy(jpeg, begin, after, out, written)
            for mark in marks:
                out[mark - 1] = 0xD0 + kept % 8
                kept += 1
            written += after - begin
        segment += 1
        if segment == needed:
            out[written - 1] = 0xD9
            return written
        column = column + 1 if column + 1 < per_row else 0
        if column == first:
            begin = after
        position += one
    return 0


@compiled
def _copy(source: Bytes, begin: int, end: int, out: Bytes, target: int) -> None:
    # Numba asks of each signed index whether it counts from the end, which keeps a loop from becoming a block copy.
    for offset in range(end - begin):
        out[np.uintp(target + offset)] = source[np.uintp(begin + offset)]
