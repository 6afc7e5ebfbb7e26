"""Clips in memory come out as the very batches that a loader makes of the packed split."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.decoders.base import FrameError
from pipeline.format.split import open_split
from pipeline.in_memory import MemoryBatches, MemoryClip, seen_frames
from pipeline.loader import ClipLoader
from pipeline.options import LoaderOptions
from pipeline.reader import ClipReader

SIZES = {"batch_size": 8, "num_frames": 9, "train": False}


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
@pytest.mark.parametrize("view", [{"crop_size": 40}, {"crop_size": 48, "scale": (0.5, 1.0), "rescale_flow": True}])
def test_batches_are_those_of_the_loader(view: dict, codec: str, split: Path, raw_split: Path) -> None:
    folder = split if codec == "jpeg" else raw_split
    with ClipLoader(folder, **SIZES, **view) as loader:
        (expected,) = loader
    options, found = LoaderOptions.of(SIZES | view), open_split(folder)
    reader, stored = ClipReader(found, options.streams), found.table.num_frames.tolist()
    clips = [MemoryClip(number, reader.read(clip, seen_frames(number, options))) for clip, number in enumerate(stored)]
    with MemoryBatches(options, height=64, width=96, raw=codec == "raw") as batches:
        whole, first = batches.make(clips), batches.make(clips[:1])
    assert torch.equal(whole.rgb, expected.rgb)
    assert torch.equal(whole.flow, expected.flow)
    assert torch.equal(first.rgb, expected.rgb[:1])
    assert whole.rgb.is_contiguous(memory_format=torch.channels_last_3d)
    assert whole.labels.tolist() == [-1] * len(stored)


def test_a_frame_that_does_not_decode_is_named() -> None:
    options = LoaderOptions.of(SIZES | {"streams": ("rgb",)})
    clip = MemoryClip(9, {"rgb": [[np.zeros(9, np.uint8)] * 9]})
    with MemoryBatches(options, height=64, width=96) as batches, pytest.raises(FrameError) as error:
        batches.make([clip])
    assert error.value.index == 0
