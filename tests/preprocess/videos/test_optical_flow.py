"""Flow: its direction and size, and how it is stored in bytes."""

import cv2
import numpy as np
import pytest

from common.errors import ConfigError
from preprocess.videos.optical_flow import METHODS, flow_method, quantise, share_clipped
from tests.movies import moving


def test_bytes_are_those_of_the_formula() -> None:
    flow = np.zeros((1, 5, 2), np.float32)
    flow[0, :, 0] = [-30, -20, 0, 10, 20]
    flow[0, :, 1] = [0, 5, -5, 1, 100]
    u, v = quantise(flow, 20)
    # 127.5 + 127.5 * flow / 20: 10 pixels are 191.25, 5 are 159.375, -5 are 95.625, 1 is 133.875; none is 127.5.
    assert u.tolist() == [[0, 0, 128, 191, 255]]
    assert v.tolist() == [[128, 159, 96, 134, 255]]
    assert share_clipped(flow, 20) == pytest.approx(0.2)  # -30 and 100 of ten


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 0), (0, 2), (0, -3), (2, -1)])
def test_flow_is_pixels_to_the_right_and_down(name: str, right: int, down: int) -> None:
    if name == "tvl1" and not hasattr(cv2, "optflow"):
        pytest.skip("needs opencv-contrib")
    first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in moving([(right, down)]))
    flow = flow_method(name)(first, second)
    assert flow.shape == (64, 96, 2)
    assert np.median(flow[..., 0]) == pytest.approx(right, abs=0.15)
    assert np.median(flow[..., 1]) == pytest.approx(down, abs=0.15)


def test_a_method_that_opencv_lacks_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow", raising=False)
    with pytest.raises(ConfigError, match=r"tvl1 needs .*pip install opencv-contrib-python-headless"):
        flow_method("tvl1")
