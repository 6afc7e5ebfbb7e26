"""Upload of decoded clips to a GPU, on a stream of its own: nothing on the host waits for it."""

from typing import Any

import torch
from torch import Tensor


class Upload:
    """Copies from pinned memory to `device`, piece by piece as clips are decoded, as far ahead as batches are.

    `cuda` is torch.cuda, or stands in for it.
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device, self._cuda = device, cuda
        self._stream = cuda.Stream(device)

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """Memory on the device for copies, uint8."""
        with self._cuda.stream(self._stream):
            return torch.empty(shape, dtype=torch.uint8, device=self._device)

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Start a copy, from any thread."""
        with self._cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def hand_over(self, target: Tensor) -> Tensor:
        """`target`, for what is computed on the current stream from now on: the device waits for its copies."""
        current = self._cuda.current_stream(self._device)
        current.wait_event(self._stream.record_event())
        target.record_stream(current)  # whose work may still read it when the host has let go of it
        return target
