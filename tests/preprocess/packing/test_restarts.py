"""A re-coded JPEG has the same coefficients, the intervals asked for and the best tables; others are refused."""

import io

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.decoders.jpeg_stream import JpegHeader, read_header
from preprocess.packing.restarts import Layout, has_same_pixels, holds_width, recode, restart_layout
from preprocess.packing.scan_writer import best_code
from tests.jpegs import GRAY, SAMPLINGS, write_jpeg


def header_of(jpeg: bytes) -> JpegHeader:
    return read_header(np.frombuffer(jpeg, np.uint8))


def scan_of(jpeg: bytes) -> bytes:
    return jpeg[header_of(jpeg).scan :]


@given(
    st.tuples(st.integers(1, 80), st.integers(1, 130)),
    st.sampled_from(SAMPLINGS),
    st.integers(1, 100),
    st.integers(0, 60),
    st.sampled_from([0, 1, 2, 7]),
    st.booleans(),
)
@example((256, 456), "420", 90, 20, 0, False)
@example((256, 456), GRAY, 95, 5, 0, False)
@settings(max_examples=200, deadline=None)
def test_the_pixels_are_the_same(
    size: tuple[int, int], sampling: str, quality: int, noise: int, restarts: int, optimise: bool
) -> None:
    jpeg = write_jpeg(*size, sampling, quality, noise, restarts=restarts, optimise=optimise)
    recoded = recode(jpeg)
    assert has_same_pixels(jpeg, recoded)
    header = header_of(recoded)
    assert header.mcus_per_row % header.interval == 0
    if sampling in ("420", "422", "411"):
        assert simplejpeg.decode_jpeg_header(recoded)[:2] == size  # filling up would change chroma at the border
    assert recode(recoded, Layout(header.interval, header.mcus_per_row)) == recoded


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("restarts", [1, 4, 60])
def test_the_codes_are_those_of_libjpeg(sampling: str, restarts: int) -> None:
    plain, best = (
        write_jpeg(100, 150, sampling, 80, restarts=restarts, optimise=optimise) for optimise in (False, True)
    )
    recoded = recode(plain, Layout(restarts, header_of(plain).mcus_per_row))
    assert scan_of(recoded) == scan_of(best)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_all_decoders_see_the_same(sampling: str) -> None:
    jpeg = write_jpeg(60, 150, sampling, noise=30)
    recoded = recode(jpeg)
    mode = cv2.IMREAD_GRAYSCALE if sampling == GRAY else cv2.IMREAD_COLOR_RGB
    for decode in (
        lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), mode),
        lambda data: np.asarray(Image.open(io.BytesIO(data))),
    ):
        np.testing.assert_array_equal(decode(recoded)[:, :150], decode(jpeg))


@pytest.mark.parametrize(
    ("sampling", "width", "interval", "mcus"),
    [
        ("420", 456, 1, 29),  # EPIC's: a prime
        ("420", 320, 2, 20),
        ("422", 340, 2, 22),
        (GRAY, 456, 6, 60),  # 57 are filled up by three, of 5 and 6 the larger
        (GRAY, 320, 8, 40),
        (GRAY, 340, 5, 45),  # 43, a prime
        (GRAY, 224, 7, 28),
        (GRAY, 50, 7, 7),
        ("444", 456, 6, 60),
        ("440", 456, 6, 60),  # subsampled downwards alone
        (GRAY, 65_530, 8192, 8192),  # there can be no wider one
    ],
)
def test_the_interval_divides_a_row_that_is_filled_up_little(
    sampling: str, width: int, interval: int, mcus: int
) -> None:
    size = (1 if width > 1000 else 16, min(width, 65_000))
    header = header_of(write_jpeg(*size, sampling))._replace(width=width)
    assert restart_layout(header) == (interval, mcus)


def test_the_width_of_an_image_that_was_filled_up_is_recognised() -> None:
    gray, colour = recode(write_jpeg(16, 104, GRAY)), recode(write_jpeg(16, 104))
    assert header_of(gray).width == 112
    assert [width for width in (88, 96, 104, 112, 120) if holds_width(gray, width)] == [104, 112]
    assert [width for width in (88, 96, 104, 112, 120) if holds_width(colour, width)] == [104]
    assert not holds_width(b"", 104)


def test_restarts_cost_little() -> None:
    rgb, gray = write_jpeg(256, 456, "420", 75, noise=8), write_jpeg(256, 456, GRAY, 95, noise=2)
    assert len(recode(rgb)) < 1.12 * len(rgb)
    assert len(recode(gray)) < 1.06 * len(gray)


def test_codes_are_of_sixteen_bits_at_most_and_none_is_all_ones() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 24:
        fibonacci.append(sum(fibonacci[-2:]))
    tokens = np.concatenate([np.full(number, 4 << 24 | symbol << 16) for symbol, number in enumerate(fibonacci)])
    counts, _, codes, _ = best_code(tokens.astype(np.uint32))
    lengths = np.arange(1, 17)
    assert counts[4].sum() == len(fibonacci)
    assert (counts[4] / 2.0**lengths).sum() < 1
    by_frequency = codes[4 * 256 + 1 : 4 * 256 + 24].astype(int) & 255
    assert (np.diff(by_frequency) <= 0).all()
    used = codes[codes > 0]
    assert ((used >> 8) < (1 << (used & 255)) - 1).all()


def with_bytes(jpeg: bytes, marker: bytes, offset: int, new: bytes) -> bytes:
    place = jpeg.index(marker) + offset
    return jpeg[:place] + new + jpeg[place + len(new) :]


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = exif.tobytes()
    return jpeg[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + jpeg[2:]


PLAIN = write_jpeg(24, 40)
SOF, DQT, DHT, SOS = b"\xff\xc0", b"\xff\xdb", b"\xff\xc4", b"\xff\xda"


@pytest.mark.parametrize(
    ("jpeg", "match"),
    [
        (write_jpeg(progressive=True), "is progressive"),
        (with_bytes(PLAIN, SOF, 1, b"\xc9"), "is arithmetic-coded or lossless"),
        (with_bytes(PLAIN, SOF, 1, b"\xc3"), "is arithmetic-coded or lossless"),
        (with_bytes(PLAIN, SOF, 4, b"\x0c"), "has 12 bits a sample"),
        (with_bytes(PLAIN, SOF, 5, b"\0\0"), "has its height after its scan"),
        (with_bytes(PLAIN, SOF, 7, b"\0\0"), "has a damaged header"),
        (with_bytes(PLAIN, SOF, 11, b"\x55"), "has sampling factors that are not allowed"),
        (with_bytes(PLAIN, SOF, 12, b"\x03"), "names a quantisation table that is not there"),
        (with_bytes(PLAIN, SOS, 6, b"\x33"), "names a Huffman table that is not there"),
        (PLAIN[: PLAIN.index(SOS)] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + PLAIN[PLAIN.index(SOS) + 14 :], "several scans"),
        (with_bytes(PLAIN, DHT, 5, b"\x05"), "has a Huffman table that is not a code|damaged header"),
        (PLAIN[:-20] + b"\xff\xd9", "cut off|other marker|tables do not have"),
        (PLAIN[:-2] + b"\x12\x34\xff\xd9", "bytes left over"),
        (PLAIN[:-2] + b"\xff\xdc\0\4\0\x18\xff\xd9", "another marker"),
        (PLAIN[:-2], "cut off"),
        (with_orientation(PLAIN, 6), "is to be turned"),
        (b"", "has a damaged header"),
    ],
)
def test_what_cannot_be_recoded_is_refused_with_the_reason(jpeg: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        recode(jpeg)


def test_metadata_is_left_out_and_what_colours_mean_is_kept() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))
    stream = io.BytesIO()
    image.save(stream, "JPEG", comment=b"hello", exif=with_orientation(PLAIN, 1)[6:60], keep_rgb=True)
    recoded = recode(stream.getvalue())
    assert has_same_pixels(stream.getvalue(), recoded)
    assert b"hello" not in recoded
    assert b"Exif" not in recoded


def test_bytes_after_the_end_are_left_out() -> None:
    assert recode(PLAIN + b"thumbnail") == recode(PLAIN)
