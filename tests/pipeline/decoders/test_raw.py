"""Raw frames through the loader: the pixels, order and faults of JPEGs, without a decoder."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.batch import copy_frames, copy_on_gpu
from pipeline.decoders.dali import DaliDecoder
from pipeline.decoders.pool import PoolDecoder
from pipeline.format.index import ShardError
from pipeline.format.split import open_split
from pipeline.format.streams import PLANES
from pipeline.loader import ClipLoader
from tests.conftest import Packer
from tests.trees import Video

SMALL = {"batch_size": 2, "num_frames": 16, "crop_size": 48}
EVERY_WAY = [
    {},
    {"train": False},
    {"scale": (0.5, 1.0)},
    {"color": 0.4},
    {"scale": (0.5, 1.0), "color": 0.4, "rescale_flow": True, "temporal": "jitter", "num_frames": 8},
    {"crop_size": 80},  # larger than the frames, which are scaled up
]


def assert_same_batches(one: ClipLoader, two: ClipLoader, epochs: int = 2) -> None:
    for _ in range(epochs):
        for first, second in zip(one, two, strict=True):
            assert first.clips.tolist() == second.clips.tolist()
            for a, b in ((first.rgb, second.rgb), (first.flow, second.flow)):
                assert (a is None) == (b is None)
                assert a is None or (torch.equal(a, b) and a.stride() == b.stride())


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_batches_are_those_of_the_jpegs_bit_for_bit(split: Path, raw_split: Path, options: dict[str, Any]) -> None:
    with ClipLoader(split, **(SMALL | options)) as jpeg, ClipLoader(raw_split, **(SMALL | options)) as raw:
        assert_same_batches(jpeg, raw)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_one_stream_alone_is_that_of_the_jpegs(split: Path, raw_split: Path, stream: str) -> None:
    with (
        ClipLoader(split, **SMALL, streams=(stream,)) as jpeg,
        ClipLoader(raw_split, **SMALL, streams=(stream,)) as raw,
    ):
        assert_same_batches(jpeg, raw)


@pytest.mark.parametrize("change", [{"num_threads": 1}, {"num_threads": 5}, {"prefetch": 1}, {"prefetch": 4}])
def test_pixels_do_not_depend_on_threads_or_prefetch(raw_split: Path, change: dict[str, int]) -> None:
    with ClipLoader(raw_split, **SMALL) as one, ClipLoader(raw_split, **SMALL, **change) as two:
        assert_same_batches(one, two)


def test_resuming_in_mid_epoch_equals_never_stopping(raw_split: Path) -> None:
    with ClipLoader(raw_split, **SMALL) as whole, ClipLoader(raw_split, **SMALL) as resumed:
        batches = iter(whole)
        next(batches)
        resumed.load_state_dict(whole.state_dict())
        rest = [batch.rgb for batch in batches]
        assert len(rest) == 3
        assert all(torch.equal(a, batch.rgb) for a, batch in zip(rest, resumed, strict=True))


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
    copy = Path(shutil.copytree(raw_split, tmp_path / "train"))
    table = open_split(copy).table
    data = bytearray((copy / "00000.tfrecord").read_bytes())
    data[int(table.offset[table.first_frame[3] + 7, PLANES.index("flow_v")])] ^= 1
    (copy / "00000.tfrecord").write_bytes(data)
    return copy


@pytest.mark.parametrize("options", [{}, {"scale": (0.5, 0.5)}], ids=["copied", "resized"])
def test_a_changed_byte_stops_with_clip_and_frame(damaged: Path, options: dict[str, Any]) -> None:
    with ClipLoader(damaged, **SMALL, train=False, **options) as loader:
        where = rf"00000\.tfrecord: clip {loader.clip_ids[3]} .*: flow_v/007 is damaged"
        batches = iter(loader)
        next(batches)  # the clips before are not held up by it
        with pytest.raises(ShardError, match=where):
            next(batches)


@pytest.mark.parametrize("options", [{}, {"scale": (0.5, 0.5), "rescale_flow": True}], ids=["copied", "resized"])
def test_skip_trains_on_the_next_of_the_order(damaged: Path, raw_split: Path, options: dict[str, Any]) -> None:
    with ClipLoader(raw_split, **SMALL, **options) as untouched:
        orders = [[clip for batch in untouched for clip in batch.clips.tolist()] for _ in range(2)]
    with ClipLoader(damaged, **SMALL, on_corrupt="skip", **options) as loader:
        handed_out = [[clip for batch in loader for clip in batch.clips.tolist()] for _ in range(2)]
        assert loader.skipped == [loader.clip_ids[3]] * 2
    for order in orders:
        place = order.index(3)
        order[place] = order[(place + 1) % 8]
    assert handed_out == orders


@pytest.mark.parametrize("options", [{"streams": ("rgb",)}, {"num_frames": 8}], ids=["other stream", "other frames"])
def test_damage_in_what_is_not_used_is_harmless(damaged: Path, raw_split: Path, options: dict[str, Any]) -> None:
    options = SMALL | options  # eight of sixteen frames are 0, 2, 4, 6, 8, 10, 12 and 15
    with ClipLoader(damaged, **options) as one, ClipLoader(raw_split, **options) as two:
        assert_same_batches(one, two)


def test_a_split_of_corrupt_clips_alone_is_an_error_though_they_may_be_skipped(raw_split: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(raw_split, tmp_path / "train"))
    table = open_split(copy).table
    data = bytearray((copy / "00000.tfrecord").read_bytes())
    for first in table.first_frame[:-1]:
        data[int(table.offset[first, 0])] ^= 1
    (copy / "00000.tfrecord").write_bytes(data)
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
