"""A trimmed JPEG decodes to the pixels of the whole; what cannot be trimmed is said, and no byte outside is read."""

import io
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.decoders.jpeg_stream import REFUSALS, compiled, read_header
from pipeline.decoders.trim import Trimmed, Window, trim_into
from pipeline.decoders.turbojpeg import JpegWindows
from pipeline.views import View
from preprocess.packing.restarts import recode
from tests.jpegs import GRAY, SAMPLINGS, write_jpeg

ROOT = Path(__file__).parents[3]


def as_bytes(jpeg: bytes) -> np.ndarray:
    return np.frombuffer(jpeg, np.uint8)


def trim(jpeg: bytes, window: Window) -> tuple[bytes, Trimmed]:
    out = np.empty(len(jpeg), np.uint8)
    trimmed = trim_into(as_bytes(jpeg), window, out)
    assert trimmed is not None
    return out[: trimmed.size].tobytes(), trimmed


def cut(image: np.ndarray, window: Window) -> np.ndarray:
    top, left, height, width = window
    return image[top : top + height, left : left + width]


def decode(jpeg: bytes, sampling: str) -> np.ndarray:
    return simplejpeg.decode_jpeg(jpeg, "GRAY" if sampling == GRAY else "RGB")


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int, Window]:
    """Height and width of an image, and a window in it."""
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 120))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return height, width, Window(top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))


@given(
    windows(),
    st.sampled_from(SAMPLINGS),
    st.integers(1, 100),
    st.integers(0, 60),
    st.sampled_from([0, 1, 2, 7]),
    st.booleans(),
)
@example((32, 36, Window(8, 33, 9, 3)), "420", 90, 10, 0, False)  # the last MCU has chroma two samples wide
@example((17, 9, Window(16, 8, 1, 1)), "420", 90, 10, 0, False)
@example((40, 57 * 8, Window(3, 400, 30, 56)), GRAY, 95, 10, 0, False)  # rows that are filled up
@settings(max_examples=150, deadline=None)
@pytest.mark.slow
def test_a_window_of_the_trimmed_image_is_that_of_the_whole_to_the_last_bit(
    size: tuple[int, int, Window], sampling: str, quality: int, noise: int, restarts: int, optimise: bool
) -> None:
    height, width, window = size
    jpeg = write_jpeg(height, width, sampling, quality, noise, restarts=restarts, optimise=optimise)
    for stored in (jpeg, recode(jpeg)):
        small, trimmed = trim(stored, window)
        image = simplejpeg.decode_jpeg(
            small, "GRAY" if sampling == GRAY else "RGB", strict=False
        )  # bytes are left over
        assert image.shape[:2] == trimmed[1:3]
        np.testing.assert_array_equal(
            cut(image, Window(trimmed.top, trimmed.left, *window[2:])), cut(decode(jpeg, sampling), window)
        )


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_jpeg_with_restarts_of_its_own_is_trimmed_as_it_is(sampling: str) -> None:
    jpeg = write_jpeg(64, 96, sampling, restarts=1)
    small, trimmed = trim(jpeg, Window(20, 40, 20, 20))
    assert trimmed.size < len(jpeg)
    image = cut(decode(small, sampling), Window(trimmed.top, trimmed.left, 20, 20))
    np.testing.assert_array_equal(image, cut(decode(jpeg, sampling), Window(20, 40, 20, 20)))


@pytest.mark.parametrize("sampling", ["420", GRAY])
def test_all_decoders_see_the_same_in_a_trimmed_image(sampling: str) -> None:
    small, _ = trim(recode(write_jpeg(256, 456, sampling, noise=20)), Window(17, 100, 224, 224))
    expected = decode(small, sampling)
    pillow = np.asarray(Image.open(io.BytesIO(small))).reshape(expected.shape)
    opencv = cv2.imdecode(as_bytes(small), cv2.IMREAD_GRAYSCALE if sampling == GRAY else cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(pillow, expected)
    np.testing.assert_array_equal(opencv.reshape(expected.shape), expected)
    np.testing.assert_array_equal(dali_image(small, sampling), expected)


def dali_image(jpeg: bytes, sampling: str) -> np.ndarray:
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def graph():
        return fn.decoders.image(
            fn.external_source([[as_bytes(jpeg)]]), output_type=types.GRAY if sampling == GRAY else types.RGB
        )

    pipe = graph()
    pipe.build()
    return np.asarray(pipe.run()[0].at(0))


@pytest.mark.parametrize(("sampling", "channels"), [("420", 3), (GRAY, 1)])
def test_the_pool_decodes_what_was_cut_out_and_others_whole(
    sampling: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg, progressive = write_jpeg(64, 104, sampling), write_jpeg(64, 104, sampling, progressive=True)
    windows, decoded = JpegWindows(channels, 64 * 104 * channels), []
    whole = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: decoded.append(whole(*a, **k)) or decoded[-1])
    for top, left, side in ((0, 0, 8), (0, 40, 64), (3, 37, 20), (63, 103, 1)):
        view = View(0, np.arange(1), top, left, side, mirror=False, color=(1, 1, 1))
        expected = view.window(whole(jpeg, "GRAY" if sampling == GRAY else "RGB"))
        shapes = []
        for stored in (recode(jpeg), jpeg, progressive):
            np.testing.assert_array_equal(windows(as_bytes(stored), view), expected)
            shapes.append(decoded[-1].shape[:2])
        if side == 8:
            assert shapes[0][0] == shapes[1][0] <= 16
            assert shapes[0][1] < 104 == shapes[1][1]
        assert shapes[2] == (64, 104)


def test_only_what_the_window_needs_is_copied() -> None:
    jpeg = recode(write_jpeg(256, 456, "420"))
    small, trimmed = trim(jpeg, Window(16, 32, 224, 224))
    assert (trimmed.height, trimmed.width) == (256, 256)  # a pixel more at each side, in MCUs of 16
    assert len(small) < 0.6 * len(jpeg)
    _, trimmed = trim(recode(write_jpeg(256, 456, GRAY)), Window(16, 48, 224, 224))
    assert (trimmed.height, trimmed.width) == (224, 240)  # MCUs of 8, six at a time


@pytest.mark.parametrize("restarts", [0, 4], ids=["no markers", "markers within rows"])  # of six MCUs
def test_of_others_what_lies_below_the_window_is_cut_off(restarts: int) -> None:
    jpeg = write_jpeg(64, 96, restarts=restarts)
    small, trimmed = trim(jpeg, Window(9, 30, 20, 20))
    assert trimmed[1:] == (32, 96, 9, 30)
    np.testing.assert_array_equal(simplejpeg.decode_jpeg(small, strict=False)[:30], decode(jpeg, "420")[:30])


@pytest.mark.parametrize(
    "jpeg",
    [
        write_jpeg(64, 96, progressive=True),
        b"",
        b"\xff\xd8\xff\xd9",
        b"\0" * 99,
    ],
    ids=["progressive", "empty", "no image", "no JPEG"],
)
def test_what_cannot_be_trimmed_is_said(jpeg: bytes) -> None:
    assert trim_into(as_bytes(jpeg), Window(0, 0, 8, 8), np.empty(len(jpeg), np.uint8)) is None


def test_a_image_that_exif_may_turn_is_not_trimmed() -> None:
    jpeg = write_jpeg(64, 96, restarts=1)
    exif = b"\xff\xe1\0\x0aExif\0\0\0\0"
    turned = jpeg[:2] + exif + jpeg[2:]
    assert trim_into(as_bytes(turned), Window(0, 0, 8, 8), np.empty(len(turned), np.uint8)) is None


def test_a_lost_marker_is_noticed() -> None:
    jpeg = recode(write_jpeg(64, 96))
    at = jpeg.index(b"\xff\xd3")
    for damaged in (jpeg[:at] + jpeg[at + 2 :], jpeg[: at + 1] + b"\xd4" + jpeg[at + 2 :], jpeg[:at]):
        assert trim_into(as_bytes(damaged), Window(0, 0, 64, 96), np.empty(len(damaged), np.uint8)) is None


def test_a_window_outside_and_too_little_room_are_refused() -> None:
    jpeg = recode(write_jpeg(64, 96))
    with pytest.raises(ValueError, match=r"\(0, 90, 8, 8\) does not lie within 64 x 96 pixels"):
        trim_into(as_bytes(jpeg), Window(0, 90, 8, 8), np.empty(len(jpeg), np.uint8))
    with pytest.raises(ValueError, match="needs room for as many"):
        trim_into(as_bytes(jpeg), Window(0, 0, 8, 8), np.empty(len(jpeg) - 1, np.uint8))


@given(st.integers(2, 700), st.integers(0, 255))
@settings(deadline=None)
def test_no_change_of_one_byte_of_a_header_is_worse_than_a_refusal(position: int, byte: int) -> None:
    jpeg = bytearray(recode(write_jpeg(24, 40)))
    assume(position < len(jpeg))
    jpeg[position] = byte
    header = read_header(as_bytes(bytes(jpeg)))
    assert 0 <= header.refusal < len(REFUSALS)
    if not header.refusal:
        window = Window(header.height - 1, header.width - 1, 1, 1)
        trim_into(as_bytes(bytes(jpeg)), window, np.empty(len(jpeg), np.uint8))


def test_compiled_code_needs_no_cache() -> None:
    space: dict[str, object] = {}
    exec("def double(x):\n    return 2 * x", space)  # of no file, so that there is no cache for it
    assert compiled(space["double"])(21) == 42


@pytest.mark.slow
def test_damaged_images_are_read_within_their_bytes(tmp_path: Path) -> None:
    # With checks of bounds compiled in, and first that they are.
    code = (
        "import numpy as np; from preprocess.packing.scan_reader import _word\n"
        "try: _word(np.zeros(8, np.uint8), 1)\n"
        "except IndexError: print('checked')\n"
        "import sys; from chaos import streams; sys.argv[1:] = ['--files', '600']; streams.main()"
    )
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("checked")
    assert "trimmed" in done.stdout
    assert "other pixels" not in done.stdout
