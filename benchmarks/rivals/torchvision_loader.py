"""torchvision's decode_jpeg in a DataLoader's workers."""

import warnings
from functools import cache
from typing import Any

import torch

from benchmarks.rivals.base import Rival
from benchmarks.rivals.crops import JpegClips, load
from pipeline.reader import Bytes


@cache
def _decoder() -> tuple[Any, dict[int, Any]]:
    from torchvision.io import ImageReadMode, decode_jpeg  # here: it takes its time to load

    return decode_jpeg, {1: ImageReadMode.GRAY, 3: ImageReadMode.RGB}


def decode(file: Bytes, channels: int) -> Bytes:
    """A whole frame by torchvision, [H, W, C]; its own [C, H, W] is a view of that."""
    decode_jpeg, modes = _decoder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the bytes are not writable, which nobody does
        encoded = torch.from_numpy(file)
    frame: Bytes = decode_jpeg(encoded, modes[channels]).permute(1, 2, 0).numpy()
    return frame


RIVAL = Rival("torchvision + DataLoader", ("torchvision",), lambda task: load(JpegClips(task, decode), task), False)
