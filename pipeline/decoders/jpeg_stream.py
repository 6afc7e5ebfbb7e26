"""Header of a JPEG with one Huffman-coded scan, read by compiled code that stays in the bytes."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
F = TypeVar("F", bound=Callable[..., Any])

# What keeps a stream from being handled, by the number that compiled code returns of it. 0: nothing does.
REFUSALS = (
    "",
    "has a damaged header",
    "is progressive",
    "is arithmetic-coded or lossless",
    "has 12 bits a sample",
    "has its height after its scan (DNL)",
    "has several scans",
    "has other than 1 or 3 channels",
    "has sampling factors that are not allowed",
    "names a quantisation table that is not there",
    "names a Huffman table that is not there",
)
_OK, _DAMAGED, _PROGRESSIVE, _CODING, _DEEP, _NO_HEIGHT, _SCANS, _CHANNELS, _SAMPLING, _NO_DQT, _NO_DHT = range(11)


class JpegHeader(NamedTuple):
    """Sizes in pixels, an MCU's (minimum coded unit) too, and positions in bytes; all 0 after a refusal."""

    refusal: int  # an index of REFUSALS
    frame: int  # position of the frame header's (SOF's) marker
    scan: int  # position of the scan's first entropy-coded byte
    height: int
    width: int
    channels: int
    mcu_height: int
    mcu_width: int
    interval: int  # MCUs between restart markers; 0: there are none
    has_exif: int  # it may say that the image is to be turned

    @property
    def is_subsampled(self) -> bool:
        """Whether chroma is stored smaller, so that a pixel depends on those beside it."""
        return self.mcu_height * self.mcu_width > 64

    @property
    def mcus_per_row(self) -> int:
        """MCUs from left to right, the last of them perhaps only in part within the image."""
        return -(-self.width // self.mcu_width)

    @property
    def num_rows(self) -> int:
        """Rows of MCUs."""
        return -(-self.height // self.mcu_height)


HEADER_FIELDS = len(JpegHeader._fields)
# Beside them, for who decodes: of each channel (first of four) blocks across and down in an MCU and its two Huffman
# tables, and of each Huffman table, DC 0 to 3 and AC 0 to 3, the position of its counts or 0.
CHANNEL_FIELDS = 4
HUFFMAN_TABLES = 8


def compiled(function: F) -> F:
    """Compile by Numba, without the GIL, kept in its cache where there is a folder that can be written.

    Numba takes note of changes in a function's own file alone: compiled code calls only what stands in the same file.
    """
    try:
        return cast(F, njit(nogil=True, cache=True)(function))
    except RuntimeError:  # neither beside the source nor in the user's cache folder
        return cast(F, njit(nogil=True)(function))


def read_header(jpeg: Bytes) -> JpegHeader:
    """The header of whatever bytes; of those that are no JPEG, too, which its `refusal` says."""
    return JpegHeader(*walk_header(jpeg)[:HEADER_FIELDS].tolist())


@compiled
def walk_header(jpeg: Bytes) -> NDArray[np.int64]:
    """int64 [10 + 4 * 4 + 8]: the fields of JpegHeader, of the channels, and of the Huffman tables."""
    found = np.zeros(10 + 16 + 8, np.int64)
    tables = found[26:]
    quantisation = np.zeros(4, np.int64)
    end = len(jpeg)
    if end < 4 or jpeg[0] != 0xFF or jpeg[1] != 0xD8:
        found[0] = _DAMAGED
        return found
    position, frame = 2, 0
    while True:
        while position + 4 <= end and jpeg[position] == 0xFF and jpeg[position + 1] == 0xFF:  # fill bytes
            position += 1
        if position + 4 > end or jpeg[position] != 0xFF:
            refusal = _DAMAGED
            break
        code = jpeg[position + 1]
        length = np.int64(jpeg[position + 2]) << 8 | jpeg[position + 3]
        body, after = position + 4, position + 2 + length
        if code < 0xC0 or 0xD0 <= code <= 0xD9 or length < 2 or after > end:
            refusal = _DAMAGED
        elif code == 0xC4:
            refusal = _note_huffman(jpeg, body, after, tables)
        elif code == 0xDB:
            refusal = _note_quantisation(jpeg, body, after, quantisation)
        elif code == 0xDA:
            refusal = _note_scan(jpeg, body, after, frame, found, quantisation)
            found[2] = after
            break
        elif code == 0xC2:
            refusal = _PROGRESSIVE
        elif code == 0xC0 or code == 0xC1:
            refusal = _note_frame(jpeg, body, after, found) if frame == 0 else _DAMAGED
            frame = position
        elif 0xC3 <= code <= 0xCF and code != 0xC8:
            refusal = _CODING
        elif code == 0xDD:
            refusal = _OK if length == 4 else _DAMAGED
            if length == 4:
                found[8] = np.int64(jpeg[body]) << 8 | jpeg[body + 1]
        else:
            refusal = _OK
            found[9] |= code == 0xE1
        if refusal != _OK:
            break
        position = after
    if refusal != _OK:
        found[:] = 0
    found[0], found[1] = refusal, frame
    return found


@compiled
def _note_frame(jpeg: Bytes, body: int, after: int, found: NDArray[np.int64]) -> int:
    if after - body < 9 or after - body != 6 + 3 * jpeg[body + 5]:
        return _DAMAGED
    found[3] = np.int64(jpeg[body + 1]) << 8 | jpeg[body + 2]
    found[4] = np.int64(jpeg[body + 3]) << 8 | jpeg[body + 4]
    found[5] = jpeg[body + 5]
    if jpeg[body] != 8:
        return _DEEP
    if found[4] == 0:
        return _DAMAGED
    if found[3] == 0:
        return _NO_HEIGHT
    return _OK if found[5] == 1 or found[5] == 3 else _CHANNELS


@compiled
def _note_scan(
    jpeg: Bytes, body: int, after: int, frame: int, found: NDArray[np.int64], quantisation: NDArray[np.int64]
) -> int:
    """Note what stands in the header of the only scan, and that all that it names is there."""
    if frame == 0 or after - body != 4 + 2 * jpeg[body]:
        return _DAMAGED
    if jpeg[body] != found[5]:
        return _SCANS
    if jpeg[after - 3] != 0 or jpeg[after - 2] != 63 or jpeg[after - 1] != 0:
        return _DAMAGED
    widest = highest = blocks = 0
    for channel in range(found[5]):
        named = frame + 10 + 3 * channel  # in the frame header: id, sampling, quantisation table
        selected = body + 1 + 2 * channel  # in the scan header: id, Huffman tables
        across, down = jpeg[named + 1] >> 4, jpeg[named + 1] & 15
        dc, ac = jpeg[selected + 1] >> 4, jpeg[selected + 1] & 15
        if jpeg[selected] != jpeg[named]:
            return _DAMAGED
        if not (1 <= across <= 4 and 1 <= down <= 4):
            return _SAMPLING
        if jpeg[named + 2] > 3 or quantisation[jpeg[named + 2]] == 0:
            return _NO_DQT
        if dc > 3 or ac > 3 or found[26 + dc] == 0 or found[30 + ac] == 0:
            return _NO_DHT
        if found[5] == 1:  # a scan of one channel has one block an MCU, whatever the factors
            across = down = 1
        fields = found[10 + 4 * channel :]
        fields[0], fields[1], fields[2], fields[3] = across, down, dc, ac
        widest, highest, blocks = max(widest, across), max(highest, down), blocks + across * down
    if blocks > 10:
        return _SAMPLING
    found[6], found[7] = 8 * highest, 8 * widest
    return _OK


@compiled
def _note_huffman(jpeg: Bytes, position: int, after: int, tables: NDArray[np.int64]) -> int:
    while position < after:
        kind = jpeg[position]
        if position + 17 > after or kind & 0xEF > 3:
            return _DAMAGED
        total = 0
        for length in range(16):
            total += jpeg[position + 1 + length]
        if total > 256 or position + 17 + total > after:
            return _DAMAGED
        tables[(kind >> 4) * 4 + (kind & 15)] = position + 1
        position += 17 + total
    return _OK


@compiled
def _note_quantisation(jpeg: Bytes, position: int, after: int, tables: NDArray[np.int64]) -> int:
    while position < after:
        kind = jpeg[position]
        size = 129 if kind >> 4 else 65
        if kind >> 4 > 1 or kind & 15 > 3 or position + size > after:
            return _DAMAGED
        tables[kind & 15] = position + 1
        position += size
    return _OK
