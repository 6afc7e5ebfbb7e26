"""OpenCV in a DataLoader's workers, written well: uint8 throughout, nothing but the window copied."""

import cv2
import numpy as np

from benchmarks.rivals.base import Rival
from benchmarks.rivals.crops import JpegClips, load
from pipeline.reader import Bytes


def decode(file: Bytes, channels: int) -> Bytes:
    """A whole frame by OpenCV, [H, W, C]."""
    frame = cv2.imdecode(file, cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE)
    return np.asarray(frame).reshape(*frame.shape[:2], channels)


RIVAL = Rival(
    "OpenCV + DataLoader", ("opencv-python-headless",), lambda task: load(JpegClips(task, decode), task), False
)
