"""Windows of JPEGs by libjpeg-turbo: trimmed to what a window needs, and decoded into a buffer per thread."""

import threading

import numpy as np
import simplejpeg

from pipeline.decoders.trim import Window, trim_into, warm_up
from pipeline.reader import Bytes, EncodedFrame
from pipeline.views import View


class JpegWindows:
    """Opens windows of JPEGs for pipeline.decoders.pool.PoolDecoder."""

    def __init__(self, channels: int, frame_bytes: int) -> None:
        self._channels, self._colors = channels, "GRAY" if channels == 1 else "RGB"
        self._frame_bytes = frame_bytes
        self._own = threading.local()
        warm_up()

    def __call__(self, encoded: EncodedFrame, view: View) -> Bytes:
        """The window, [side, side, C]; ValueError says why the JPEG does not decode."""
        assert isinstance(encoded, np.ndarray)
        top, left, side = view.top, view.left, view.side
        room = self._memory("jpeg", len(encoded))
        trimmed = trim_into(encoded, Window(top, left, side, side), room)
        num_bytes = self._frame_bytes
        if trimmed is not None:
            encoded, top, left = room[: trimmed.size], trimmed.top, trimmed.left
            num_bytes = trimmed.height * trimmed.width * self._channels  # it may be wider than its image
        pixels = self._memory("pixels", num_bytes)
        frame: Bytes = simplejpeg.decode_jpeg(encoded, self._colors, buffer=pixels, strict=False)
        return frame[top : top + side, left : left + side]

    def _memory(self, name: str, num_bytes: int) -> Bytes:
        """The thread's own memory of this name, at an odd address: aligned rows would be written past the cache."""
        memory: Bytes | None = getattr(self._own, name, None)
        if memory is None or len(memory) < num_bytes:
            whole = np.empty(2 * num_bytes + 64, np.uint8)
            memory = whole[1 + -whole.ctypes.data % 64 :]
            setattr(self._own, name, memory)
        return memory
