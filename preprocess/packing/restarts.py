"""Lossless JPEG re-coding: restart markers, optimised Huffman tables, same coefficients."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg

from pipeline.decoders.jpeg_stream import (
    CHANNEL_FIELDS,
    HEADER_FIELDS,
    HUFFMAN_TABLES,
    REFUSALS,
    Bytes,
    JpegHeader,
    read_header,
    walk_header,
)
from preprocess.packing.jpeg import exif_orientation
from preprocess.packing.scan_reader import ERRORS, Integers, Tokens, holds_tokens, read_scan
from preprocess.packing.scan_writer import best_code, write_scan

_KEPT = {0xE0, 0xEE, 0xDB}  # JFIF and Adobe, which tell what the channels are, and quantisation tables
_LONGEST_ROW = 8000  # of blocks that can become more: a JPEG has at most 65,535 pixels


class Layout(NamedTuple):
    """Layout of MCUs: a restart marker after each `interval`, rows of `mcus_per_row`."""

    interval: int
    mcus_per_row: int  # at least the image's own; the rest is empty, to make it a multiple of the interval


def restart_layout(header: JpegHeader) -> Layout:
    """The restart interval: few bytes, and windows that can be cut with little waste.

    It has to divide a row. Where chroma is subsampled across, an image cannot become wider (the last pixels would see
    other chroma beside them), and it is 2 MCUs or 1. Others are filled up on the right, as little as 5 to 8 MCUs allow.
    """
    row = header.mcus_per_row
    if header.mcu_width > 8:
        return Layout(1 if row % 2 else 2, row)
    if row <= 8 or row > _LONGEST_ROW:
        return Layout(row, row)
    interval = min(range(8, 4, -1), key=lambda interval: -row % interval)
    return Layout(interval, row + -row % interval)


def recode(jpeg: bytes, layout: Layout | None = None) -> bytes:
    """A JPEG of the same pixels with restart markers, which any libjpeg decodes.

    Comments and metadata are left out. Where `restart_layout` fills rows up it is wider: the image is its left part.
    What was written has been read back and compared, coefficient for coefficient.

    Raises:
        ValueError: what it is about the JPEG that cannot be re-coded, as the end of a sentence.
    """
    data = np.frombuffer(jpeg, np.uint8)
    walked = walk_header(data)
    header = JpegHeader(*walked[:HEADER_FIELDS].tolist())
    if header.refusal:
        raise ValueError(REFUSALS[header.refusal])
    if header.has_exif and exif_orientation(jpeg) != 1:
        raise ValueError("is to be turned, by its EXIF orientation")
    layout = layout or restart_layout(header)
    tokens = _read_tokens(data, walked, layout)
    tables, codes, num_bits = _best_codes(tokens)
    scan = write_scan(tokens, codes, num_bits)
    recoded = _head(jpeg, header, layout, tables) + scan.tobytes() + b"\xff\xd9"
    if not _reads_as(recoded, header, layout, tokens):
        raise ValueError("does not read as the same coefficients when it is re-coded")
    return recoded


def has_same_pixels(jpeg: bytes, recoded: bytes) -> bool:
    """Whether a decoder makes the same image of both, but for what was added on the right."""
    space = "GRAY" if simplejpeg.decode_jpeg_header(jpeg)[2] == "Gray" else "RGB"
    before, after = (simplejpeg.decode_jpeg(data, space) for data in (jpeg, recoded))
    return bool(np.array_equal(before, after[:, : before.shape[1]]))


def warm_up() -> None:
    """Compile, or load what was compiled before: some seconds the first time on a machine."""
    recode(simplejpeg.encode_jpeg(np.zeros((8, 8, 1), np.uint8), colorspace="GRAY", colorsubsampling="Gray"))


def holds_width(recoded: bytes, width: int) -> bool:
    """Whether a re-coded JPEG is an image of that width, filled up on the right if it is wider."""
    header = read_header(np.frombuffer(recoded, np.uint8))
    if header.refusal:
        return False
    layout = restart_layout(header._replace(width=width))
    return header.width in (width, layout.mcus_per_row * header.mcu_width)


def segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """(code, marker and content) of each segment of a sound header, from after SOI to SOS."""
    position, code = 2, 0
    while code != 0xDA:
        while jpeg[position + 1] == 0xFF:
            position += 1
        code = jpeg[position + 1]
        after = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
        yield code, jpeg[position:after]
        position = after


def _head(jpeg: bytes, header: JpegHeader, layout: Layout, tables: bytes) -> bytes:
    """All that stands before the scan."""
    parts = [b"\xff\xd8"]
    for code, segment in segments(jpeg):
        if code in (0xC0, 0xC1) and layout.mcus_per_row != header.mcus_per_row:
            width = layout.mcus_per_row * header.mcu_width
            segment = segment[:7] + width.to_bytes(2, "big") + segment[9:]
        if code == 0xDA:
            parts += [tables, b"\xff\xdd\0\4" + layout.interval.to_bytes(2, "big")]
        if code in _KEPT or code in (0xC0, 0xC1, 0xDA):
            parts.append(segment)
    return b"".join(parts)


def _read_tokens(jpeg: Bytes, walked: Integers, layout: Layout) -> Tokens:
    header = JpegHeader(*walked[:HEADER_FIELDS].tolist())
    blocks = header.mcu_height * header.mcu_width // 64 * header.channels  # an MCU's, at most
    room = min(64 * blocks * header.num_rows * header.mcus_per_row, 8 * len(jpeg))  # each code has a bit at least
    room += 64 * blocks  # of an MCU that is cut off
    room += header.num_rows * layout.mcus_per_row // layout.interval
    room += 2 * blocks * header.num_rows * (layout.mcus_per_row - header.mcus_per_row)
    tokens = np.empty(room, np.uint32)
    fields = walked[HEADER_FIELDS:-HUFFMAN_TABLES].reshape(-1, CHANNEL_FIELDS)[: header.channels]
    shape = (header.num_rows, header.mcus_per_row, layout.mcus_per_row, header.interval, layout.interval)
    count = read_scan(jpeg, header.scan, shape, fields, walked[-HUFFMAN_TABLES:], tokens)
    if count < 0:
        raise ValueError(ERRORS[count])
    return tokens[:count]


def _reads_as(recoded: bytes, header: JpegHeader, layout: Layout, tokens: Tokens) -> bool:
    """Whether a JPEG has these tokens in this layout, and is otherwise what the header says."""
    data = np.frombuffer(recoded, np.uint8)
    walked = walk_header(data)
    found = JpegHeader(*walked[:HEADER_FIELDS].tolist())
    width = header.width if layout.mcus_per_row == header.mcus_per_row else layout.mcus_per_row * header.mcu_width
    expected = header._replace(frame=found.frame, scan=found.scan, width=width, interval=layout.interval, has_exif=0)
    return found == expected and holds_tokens(data, found.scan, walked[-HUFFMAN_TABLES:], tokens)


def _best_codes(tokens: Tokens) -> tuple[bytes, Tokens, int]:
    """The DHT segment, code << 8 | length of each table << 8 | symbol, and the sum of all bits."""
    counts, values, codes, num_bits = best_code(tokens)
    tables = b"".join(
        bytes([(number >> 2) << 4 | number & 3]) + counts[number].tobytes() + values[number, :total].tobytes()
        for number, total in enumerate(counts.sum(1).tolist())
        if total
    )
    return b"\xff\xc4" + (len(tables) + 2).to_bytes(2, "big") + tables, codes, num_bits
