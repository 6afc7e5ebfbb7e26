"""Raw frames through the loader: the pixels, order and faults of JPEGs, without a decoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.batch import copy_frames, copy_on_gpu
from pipeline.decoders.dali import DaliDecoder
from pipeline.decoders.pool import PoolDecoder
from pipeline.format.index import ShardError
from pipeline.format.streams import PLANES
from pipeline.loader import ClipLoader
from tests.conftest import Packer
from tests.pipeline.loading import assert_same_batches, damaged_copy
from tests.trees import Video

SMALL = {"batch_size": 2, "num_frames": 16, "crop_size": 48}
EVERY_WAY = [
    {},
    {"train": False},
    {"scale": (0.5, 1.0)},
    {"color": 0.4},
    {"scale": (0.5, 1.0), "color": 0.4, "rescale_flow": True, "temporal": "jitter", "num_frames": 8},
    {"crop_size": 80},  # larger than the frames, which are scaled up
    {"streams": ("rgb",)},
    {"streams": ("flow",)},
]


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_batches_are_those_of_the_jpegs_bit_for_bit(split: Path, raw_split: Path, options: dict[str, Any]) -> None:
    other = SMALL | options | {"num_threads": 5, "prefetch": 4}  # on which no pixel depends
    with ClipLoader(split, **(SMALL | options)) as jpeg, ClipLoader(raw_split, **other) as raw:
        assert_same_batches(jpeg, raw)


def test_frames_of_different_sizes_in_one_split_are_allowed(packer: Packer) -> None:
    videos = [Video("P01_01", height=56, width=90), Video("P02_01", height=64, width=96)]
    one, two = packer(videos), packer(videos, "data.codec=raw")
    with ClipLoader(one, 4, 16, 48) as jpeg, ClipLoader(two, 4, 16, 48) as raw:
        assert_same_batches(jpeg, raw)


def test_dali_is_left_out_where_frames_are_only_cropped(raw_split: Path) -> None:
    with ClipLoader(raw_split, **SMALL, color=0.2, decoder="dali") as loader:
        kinds = {stream: type(decoder) for stream, decoder in loader.decoders.items()}
    assert kinds == {"rgb": DaliDecoder, "flow": PoolDecoder}


# Faults


@pytest.fixture
def damaged(raw_split: Path, tmp_path: Path) -> Path:
    """A copy with one byte changed: in a corner of v of the eighth frame of the fourth clip."""
    return damaged_copy(raw_split, tmp_path, [(3, 7, PLANES.index("flow_v"), 0)])


@pytest.mark.parametrize("options", [{}, {"scale": (0.5, 0.5)}], ids=["copied", "resized"])
def test_a_changed_byte_stops_with_clip_and_frame(damaged: Path, options: dict[str, Any]) -> None:
    with ClipLoader(damaged, **SMALL, train=False, **options) as loader:
        where = rf"00000\.tfrecord: clip {loader.clip_ids[3]} .*: flow_v/007 is damaged"
        batches = iter(loader)
        next(batches)  # the clips before are not held up by it
        with pytest.raises(ShardError, match=where):
            next(batches)


@pytest.mark.parametrize("options", [{"streams": ("rgb",)}, {"num_frames": 8}], ids=["other stream", "other frames"])
def test_damage_in_what_is_not_used_is_harmless(damaged: Path, raw_split: Path, options: dict[str, Any]) -> None:
    options = SMALL | options  # eight of sixteen frames are 0, 2, 4, 6, 8, 10, 12 and 15
    with ClipLoader(damaged, **options) as one, ClipLoader(raw_split, **options) as two:
        assert_same_batches(one, two)


def test_a_split_of_corrupt_clips_alone_is_an_error_though_they_may_be_skipped(raw_split: Path, tmp_path: Path) -> None:
    copy = damaged_copy(raw_split, tmp_path, [(clip, 0, 0, 0) for clip in range(8)])
    with ClipLoader(copy, **SMALL, on_corrupt="skip") as loader, pytest.raises(ShardError, match="is damaged"):
        next(iter(loader))


# The copy


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("mirror", "invert"), [(False, False), (True, False), (True, True)])
def test_both_ways_of_copying_are_the_plain_one(channels: int, mirror: bool, invert: bool) -> None:
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 30, channels), dtype=np.uint8))
    windows = frames[:, 2:18, 5:22]  # of larger frames, so that rows lie apart
    expected = windows.flip(2) if mirror else windows
    expected = 255 - expected if invert else expected
    for copy in (copy_frames, copy_on_gpu):
        out = torch.zeros_like(windows).contiguous()
        copy(windows, out, mirror=mirror, invert=invert)
        assert torch.equal(out, expected)
