"""Optical flow between two frames (OpenCV), and how it is stored in bytes."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError
from pipeline.format.streams import ZERO_MOTION

Gray = NDArray[np.uint8]  # [H, W]
Flow = NDArray[np.float32]  # [H, W, 2]: pixels to the right, pixels down
FlowMethod = Callable[[Gray, Gray], Flow]

Method = Literal["dis", "tvl1"]
METHODS: tuple[str, ...] = get_args(Method)


def flow_method(name: str) -> FlowMethod:
    """DIS (Kroeger et al. 2016) or TV-L1 (Zach et al. 2007) flow, on one thread.

    Raises:
        ConfigError: OpenCV lacks the method.
    """
    import cv2  # of the extra `extract`

    cv2.setNumThreads(1)  # videos are worked on side by side, and the bytes must not depend on the number of cores
    if name == "dis":
        method = cv2.DISOpticalFlow_create(cv2.DISOpticalFlow_PRESET_MEDIUM)
    elif hasattr(cv2, "optflow"):
        method = cv2.optflow.DualTVL1OpticalFlow_create()
    else:
        raise ConfigError(
            f"--flow: tvl1 needs OpenCV with its contrib modules, and this one (cv2 {cv2.__version__}) has none: "
            "pip uninstall opencv-python-headless, then pip install opencv-contrib-python-headless; or take --flow dis"
        )

    def compute(first: Gray, second: Gray) -> Flow:
        flow: Flow = method.calc(first, second, None)
        return flow

    return compute


def quantise(flow: Flow, bound: float) -> NDArray[np.uint8]:
    """Flow as bytes of u and v, [2, H, W]: round(clip(flow / bound, -1, 1) * 127.5 + 127.5).

    No motion is 127.5, stored as 128; -bound is 0 and +bound is 255. It is how EPIC-KITCHENS' flow is stored, with a
    bound of 25 pixels for the videos of 2018 (over 3 frames of 1/60 s) and of 8 for those of 2020 (over 1 of 1/50 s).
    """
    scaled = np.clip(flow / bound, -1, 1) * ZERO_MOTION + ZERO_MOTION
    planes: NDArray[np.uint8] = np.rint(np.moveaxis(scaled, -1, 0)).astype(np.uint8)
    return planes


def share_clipped(flow: Flow, bound: float) -> float:
    """Which part of the vectors' components lies beyond the bound."""
    return float(np.mean(np.abs(flow) > bound))
