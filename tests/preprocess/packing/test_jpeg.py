"""What is a sound JPEG, and what others are called."""

import io
import time
from contextlib import suppress
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.format.streams import MAX_PIXELS
from preprocess.packing.jpeg import check_jpeg, exif_orientation

BOTH = pytest.mark.parametrize("decode", [False, True], ids=["header", "decode"])


def jpeg(mode: str = "RGB", size: tuple[int, int] = (96, 64), **options: object) -> bytes:
    channels = {"L": (), "RGB": (3,), "CMYK": (4,)}[mode]
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels, mode).save(stream, "JPEG", **options)
    return stream.getvalue()


@BOTH
def test_size_and_channels_are_those_of_the_image(decode: bool) -> None:
    assert check_jpeg(jpeg(), decode) == (64, 96, 3)
    assert check_jpeg(jpeg("L", (17, 9)), decode) == (9, 17, 1)
    assert check_jpeg(jpeg("L", (1, 1)), decode) == (1, 1, 1)
    assert check_jpeg(jpeg(progressive=True), decode) == (64, 96, 3)
    assert check_jpeg(jpeg(comment="x" * 60_000, exif=b"Exif\0\0" + b"y" * 999), decode) == (64, 96, 3)
    assert check_jpeg(jpeg("CMYK"), decode).channels == 4


@BOTH
@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (b"this is a text file called .jpg", "is no JPEG"),
        (jpeg()[:-1], "is cut off"),
        (jpeg()[: len(jpeg()) // 2], "is cut off"),
        (b"\xff\xd8\xff\xd9", "no frame header"),
        (b"\xff\xd8" + b"\xff" * 99 + b"\xff\xd9", "no frame header"),
        (b"\xff\xd8" + b"\0" * 99 + b"\xff\xd9", "no frame header"),
        (b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03" + b"\0" * 9 + b"\xff\xd9", "says that it is 65535x65535"),
        (b"\xff\xd8\xff\xc0\0\x11\x08\0\0\0\x10\x03" + b"\0" * 9 + b"\xff\xd9", "says that it is 16x0"),
        (b"\xff\xd8\xff\xc0\0\x11\x0c\0\x10\0\x10\x03" + b"\0" * 9 + b"\xff\xd9", "3 channels of 12 bits"),
        (b"\xff\xd8\xff\xc9\0\x11\x08\0\x10\0\x10\x03" + b"\0" * 9 + b"\xff\xd9", "lossless or arithmetic"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, match: str, decode: bool) -> None:
    with pytest.raises(ValueError, match=match):
        check_jpeg(data, decode)


@BOTH
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("trailer", [b"\0\0\0", b"\xff" * 7, b"Samsung\xff\xd8\xff\xe0 a preview", b"\n"])
def test_bytes_after_the_end_are_no_fault(decode: bool, progressive: bool, trailer: bytes) -> None:
    assert check_jpeg(jpeg(progressive=progressive) + trailer, decode) == (64, 96, 3)


def test_a_preview_inside_makes_no_whole_image_of_one_that_is_cut_off() -> None:
    whole = jpeg(exif=b"Exif\0\0" + jpeg(size=(16, 16)))
    scan = whole.index(b"\xff\xda", len(jpeg(size=(16, 16))) + 30)
    for length in (scan - 200, scan, scan + 1, scan + 8, scan + 300, len(whole) - 1):
        with pytest.raises(ValueError, match="is cut off"):
            check_jpeg(whole[:length], decode=False)


@BOTH
@pytest.mark.parametrize("size", [2, 65_535])
def test_thirteen_megabytes_of_comments_take_no_time(decode: bool, size: int) -> None:
    whole, comment = jpeg(), b"\xff\xfe" + size.to_bytes(2, "big") + b"x" * (size - 2)
    comments = comment * (13 * 2**20 // len(comment))
    begin = time.process_time()
    for place in (2, whole.index(b"\xff\xda")):
        with suppress(ValueError):
            check_jpeg(whole[:place] + comments + whole[place:], decode)
    with suppress(ValueError):
        check_jpeg(whole[:-2] + comments + b"\xff\xd9 ", decode)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_that_of_exif(order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010E], exif[0x0112] = "a description", 6
    assert exif_orientation(jpeg(exif=exif)) == 6
    assert exif_orientation(jpeg()) == 1
    assert exif_orientation(jpeg(exif=b"Exif\0\0II*\0\xff\xff\xff\xff")) == 1


def test_a_jpeg_whose_tables_are_gone_does_not_decode() -> None:
    whole = jpeg()
    tables = whole.index(b"\xff\xc4")  # the first Huffman table; the frame header stands before it
    damaged = whole[: tables + 4] + b"\xee" * 100 + whole[tables + 104 :]
    assert check_jpeg(damaged, decode=False) == (64, 96, 3)
    with pytest.raises(ValueError, match="does not decode"):
        check_jpeg(damaged, decode=True)


@given(st.lists(st.tuples(st.sampled_from([0xC0, 0xC2, 0xC4, 0xD8, 0xDA, 0xE0, 0xFE, 0xFF]), st.binary(max_size=20))))
@settings(max_examples=200, deadline=timedelta(seconds=2))
def test_whatever_segments_a_header_has_it_is_an_image_or_a_message(segments: list[tuple[int, bytes]]) -> None:
    data = b"\xff\xd8" + b"".join(bytes([0xFF, code]) + content for code, content in segments) + b"\xff\xd9"
    with suppress(ValueError):
        header = check_jpeg(data, decode=False)
        assert 0 < header.height * header.width <= MAX_PIXELS


@BOTH
def test_no_change_of_one_byte_is_worse_than_a_message(decode: bool) -> None:
    whole = jpeg(size=(24, 16))
    for position in range(len(whole)):
        try:
            check_jpeg(whole[:position] + bytes([whole[position] ^ 0x5A]) + whole[position + 1 :], decode)
        except ValueError:
            continue
