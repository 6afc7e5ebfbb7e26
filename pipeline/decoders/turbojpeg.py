"""Windows of JPEGs by libjpeg-turbo: decoded whole into a buffer per thread, then viewed."""

import threading

import numpy as np
import simplejpeg

from pipeline.reader import Bytes, EncodedFrame
from pipeline.sampler import View


class JpegWindows:
    """Opens windows of JPEGs for pipeline.decoders.pool.PoolDecoder."""

    def __init__(self, channels: int, frame_bytes: int) -> None:
        self._colors = "GRAY" if channels == 1 else "RGB"
        self._frame_bytes = frame_bytes
        self._own = threading.local()

    def __call__(self, encoded: EncodedFrame, view: View) -> Bytes:
        """The window, [side, side, C]; ValueError says why the JPEG does not decode."""
        assert isinstance(encoded, np.ndarray)
        frame: Bytes = simplejpeg.decode_jpeg(
            encoded, self._colors, buffer=self._scratch(self._frame_bytes), strict=False
        )
        return view.window(frame)

    def _scratch(self, num_bytes: int) -> Bytes:
        """Memory for a decoded frame, at an odd address: aligned rows would be written past the cache."""
        if not hasattr(self._own, "scratch") or len(self._own.scratch) < num_bytes:
            memory = np.empty(num_bytes + 64, np.uint8)
            start = 1 + -memory.ctypes.data % 64
            self._own.scratch = memory[start : start + num_bytes]
        scratch: Bytes = self._own.scratch
        return scratch
