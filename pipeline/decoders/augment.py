"""Resize, colour and gain of a window on the CPU, within one level of DALI's graph."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.decoders.base import StreamSpec
from pipeline.decoders.resize import resize
from pipeline.format.streams import ZERO_MOTION
from pipeline.reader import Bytes
from pipeline.views import View

LUMA = (0.299, 0.587, 0.114)  # of R, G and B, ITU-R BT.601
MIDDLE = 128.0  # the level that contrast is about


class Augment:
    """The pixel operations of a view, but for the mirror, in the order of DALI's graph."""

    def __init__(self, spec: StreamSpec, view: View) -> None:
        self._size = spec.crop_size
        self._resizes = view.side != spec.crop_size
        self._color = color_matrix(*view.color) if spec.color else None
        self._gain = gain_table(spec.crop_size / view.side) if spec.gain else None

    def __call__(self, window: Bytes) -> Bytes:
        """The window [side, side, C] as the batch has it, [crop_size, crop_size, C]."""
        if self._resizes:
            window = resize(window, self._size)
        if self._color is not None:
            window = np.asarray(cv2.transform(window, self._color), np.uint8)
        if self._gain is not None:
            window = self._gain[window]
        return window


def color_matrix(brightness: float, contrast: float, saturation: float) -> NDArray[np.float32]:
    """Saturation about the luma, then contrast about the middle, then brightness, as one affine map, [3, 4]."""
    mixed = saturation * np.eye(3) + (1 - saturation) * np.array([LUMA] * 3)
    offset = np.full((3, 1), brightness * (1 - contrast) * MIDDLE)
    return np.hstack([brightness * contrast * mixed, offset]).astype(np.float32)


def gain_table(gain: float) -> Bytes:
    """For each level its distance from no motion times `gain`, uint8 [256]."""
    levels = ZERO_MOTION + np.float32(gain) * (np.arange(256, dtype=np.float32) - ZERO_MOTION)
    table: Bytes = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return table
