"""JPEGs of all kinds for tests: any size, sampling, quality and restart interval, smooth and noisy."""

import cv2
import numpy as np
from numpy.typing import NDArray

GRAY = "gray"
SAMPLINGS = ("444", "422", "420", "440", "411", GRAY)


def pixels(height: int, width: int, channels: int, noise: float = 10, seed: int = 0) -> NDArray[np.uint8]:
    """Waves of light that differ from channel to channel, with as much noise as is asked for."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / random.uniform(3, 30) + y / random.uniform(3, 30)) for _ in range(channels)]
    image = np.stack(waves, -1) + random.normal(0, noise, (height, width, channels))
    return image.clip(0, 255).astype(np.uint8)


def write_jpeg(
    height: int = 64,
    width: int = 96,
    sampling: str = "420",
    quality: int = 90,
    noise: float = 10,
    seed: int = 0,
    *,
    restarts: int = 0,
    optimise: bool = False,
    progressive: bool = False,
) -> bytes:
    """A JPEG written by libjpeg-turbo, with a marker after every `restarts` MCUs (0: none)."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, restarts]
    options += [cv2.IMWRITE_JPEG_OPTIMIZE, int(optimise), cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    if sampling != GRAY:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")]
    image = pixels(height, width, 1 if sampling == GRAY else 3, noise, seed)
    done, encoded = cv2.imencode(".jpg", image, options)
    assert done
    return encoded.tobytes()
