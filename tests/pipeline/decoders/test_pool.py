"""The pool of threads gives DALI's pixels: all of them where nothing is resized or recoloured, else within a level."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import UserError
from pipeline.decoders.augment import color_matrix, gain_table
from pipeline.decoders.resize import resize
from pipeline.decoders.turbojpeg import JpegWindows
from pipeline.loader import ClipLoader
from pipeline.views import View
from tests.conftest import Packer
from tests.trees import Video

SMALL: dict[str, Any] = {"batch_size": 2, "num_frames": 16, "crop_size": 48, "seed": 5}
EXACT = [{}, {"train": False}, {"mirror": 1.0, "num_frames": 8, "temporal": "jitter"}, {"streams": ("flow",)}]
WITHIN_ONE = [
    {"scale": (0.5, 1.0)},
    {"color": 0.4},
    {"crop_size": 80},  # larger than the frames, which are scaled up
    {"crop_size": 32, "scale": (0.9, 1.0)},  # shrunk to half
    {"crop_size": 64, "rescale_flow": True, "temporal": "jitter", "num_frames": 8},
]


def differences(split: Path, options: dict[str, Any]) -> list[int]:
    """The largest difference of each stream of each batch of two epochs."""
    found = []
    with (
        ClipLoader(split, **options, decoder="dali") as dali,
        ClipLoader(split, **options, decoder="turbojpeg") as pool,
    ):
        for _ in range(2):
            for one, two in zip(dali, pool, strict=True):
                assert one.clips.tolist() == two.clips.tolist()
                for a, b in ((one.rgb, two.rgb), (one.flow, two.flow)):
                    assert (a is None) == (b is None)
                    if a is not None and b is not None:
                        assert a.stride() == b.stride()
                        found.append(int((a.int() - b.int()).abs().max()))
    return found


@pytest.mark.parametrize(
    ("options", "most"), [*((way, 0) for way in EXACT), *((way, 1) for way in WITHIN_ONE)], ids=str
)
def test_plain_crops_are_the_same_bits_and_others_within_a_level(
    any_split: Path, options: dict[str, Any], most: int
) -> None:
    assert max(differences(any_split, SMALL | options)) <= most


def test_a_level_of_resizing_is_scaled_by_colour_and_gain(any_split: Path) -> None:
    options = {"scale": (0.5, 1.0), "color": 0.4, "rescale_flow": True}
    # Brightness and contrast of up to 1.4 each; saturation of 1.4 adds 1.4 - 0.4 x luma and takes 0.4 x the rest.
    assert max(differences(any_split, SMALL | options)) <= 1.4 * 1.4 * 1.71 + 1


def test_frames_of_different_sizes_are_the_same_bits(packer: Packer) -> None:
    split = packer([Video("P01_01", height=57, width=91), Video("P02_01", height=64, width=96)])
    assert set(differences(split, SMALL | {"batch_size": 4})) == {0}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 90),
    st.sampled_from(["4:4:4", "4:2:2", "4:2:0", "L"]),
    st.integers(5, 100),
    st.data(),
)
def test_a_window_is_that_of_the_whole_image(
    height: int, width: int, kind: str, quality: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(height * 100 + width)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(
        "L" if kind == "L" else "RGB"
    )
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, **({} if kind == "L" else {"subsampling": kind}))
    side = data.draw(st.integers(1, min(height, width)))
    top, left = data.draw(st.integers(0, height - side)), data.draw(st.integers(0, width - side))
    view = View(0, np.zeros(1, np.int64), top, left, side, False, (1.0, 1.0, 1.0))
    channels = 1 if kind == "L" else 3
    jpeg = np.frombuffer(file.getvalue(), np.uint8)
    found = JpegWindows(channels, 70 * 90 * channels)(jpeg, view)
    whole = np.asarray(Image.open(io.BytesIO(jpeg.tobytes()))).reshape(height, width, channels)
    assert np.array_equal(found, whole[top : top + side, left : left + side])
    assert found.base is not None  # a view of the thread's own buffer


def test_shrinking_averages_and_enlarging_interpolates() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (16, 8))[..., None]  # columns 0, 255, 0, 255 ...
    assert set(np.unique(resize(stripes, 4)[:, 1:-1]).tolist()) <= {127, 128}  # without antialiasing: 0 or 255
    ramp = np.array([[[0], [100]]] * 2, np.uint8)
    assert resize(ramp, 4)[0, :, 0].tolist() == [0, 25, 75, 100]


def test_factors_of_one_change_no_level() -> None:
    assert color_matrix(1.0, 1.0, 1.0) == pytest.approx(np.hstack([np.eye(3), np.zeros((3, 1))]))
    assert gain_table(1.0).tolist() == list(range(256))
    assert gain_table(2.0)[[0, 100, 127, 128, 200]].tolist() == [0, 72, 126, 128, 255]


def test_a_file_that_does_not_decode_is_named_with_its_frame(packer: Packer) -> None:
    split = packer([Video("P01_01")])
    with ClipLoader(split, 2, 16, 48, train=False, decoder="turbojpeg") as loader:
        prepare = loader.fetcher.fetch

        def broken(plan: Any) -> Any:
            prepared = prepare(plan)
            prepared.encoded["flow"][2 * 16 + 16 + 5] = np.zeros(100, np.uint8)  # after u of both and v of the first
            return prepared

        loader.fetcher.fetch = broken  # type: ignore[method-assign]
        with pytest.raises(
            UserError, match=r"flow_v/005 of clip P01_01_1 does not decode: \w.+; python preprocess/pack"
        ):
            next(iter(loader))


def test_the_pool_leaves_torchs_threads_as_they_are(split: Path) -> None:
    before = torch.get_num_threads()
    with ClipLoader(split, **SMALL, decoder="turbojpeg", scale=(0.5, 1.0)) as loader:
        list(loader)
    assert torch.get_num_threads() == before
