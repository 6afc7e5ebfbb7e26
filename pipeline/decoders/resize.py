"""Bilinear resize of a window, antialiased where it shrinks, with DALI's filter and borders."""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.decoders.jpeg_stream import compiled
from pipeline.reader import Bytes

Floats = NDArray[np.float32]
Taps = tuple[NDArray[np.int64], Floats]  # per pixel of the result: its first source pixel [size], weights [size, K]


def resize(window: Bytes, size: int) -> Bytes:
    """A square window [side, side, C] as [size, size, C].

    A pixel of the result is the mean of the window under a triangle about the pixel's centre, whose half width is a
    pixel of the result where the window shrinks, and one of the window where it grows; beyond the border lies the
    border's own pixel. Computed in float32, rounded once.
    """
    side, channels = len(window), window.shape[2]
    starts, weights = taps(side, size)
    # Whole rows are weighted at once; to weight columns the window is turned, which takes a third of doing without.
    turned = cv2.transpose(window).reshape(side, side * channels)
    narrow = np.empty((size, side * channels), np.float32)
    _down(turned, starts, weights, np.empty(side * channels, np.float32), np.float32(0), narrow)
    upright = cv2.transpose(narrow.reshape(size, side, channels)).reshape(side, size * channels)
    out = np.empty((size, size * channels), np.uint8)
    rounding = np.float32(0.5)  # as levels are cut off
    _down(upright, starts, weights, np.empty(size * channels, np.float32), rounding, out)
    return out.reshape(size, size, channels)


@lru_cache(64)
def taps(side: int, size: int) -> Taps:
    """Where `size` pixels lie among `side`, and how much each of those counts."""
    scale = side / size
    reach = max(scale, 1.0)
    num_taps = min(side, int(np.ceil(2 * reach)) + 1)
    centres = (np.arange(size) + 0.5) * scale
    starts = np.clip(np.floor(centres - reach).astype(np.int64), 0, side - num_taps)
    weights = np.zeros((size, num_taps))
    for offset in range(-1, int(np.ceil(2 * reach)) + 2):
        source = np.floor(centres - reach).astype(np.int64) + offset
        weight = np.maximum(0.0, 1.0 - np.abs(source + 0.5 - centres) / reach)
        at = np.clip(source, 0, side - 1) - starts
        counts = weight > 0
        np.add.at(weights, (np.flatnonzero(counts), at[counts]), weight[counts])
    weights /= weights.sum(axis=1, keepdims=True)
    return starts, weights.astype(np.float32)


@compiled
def _down(
    window: Bytes, starts: NDArray[np.int64], weights: Floats, line: Floats, offset: np.float32, out: Any
) -> None:
    """Resize [side, N] along its columns to [size, N]; `line` [N] is room for one row, `offset` is added."""
    for row in range(len(out)):
        line[:] = offset
        for tap in range(weights.shape[1]):
            weight, source = weights[row, tap], window[starts[row] + tap]
            for x in range(len(line)):
                line[x] += weight * np.float32(source[x])
        target = out[row]
        for x in range(len(line)):
            target[x] = line[x]
