"""Memory for batches that is used again: making it anew would cost a page fault for every 4 KiB of every batch."""

import math
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class BufferPool:
    """Hands out uint8 tensors of the CPU; the memory of one that nobody has any more is given to the next.

    A tensor lives for as long as anything refers to it, a view of it included, as any other tensor does.

    Attributes:
        keep: how many blocks of memory wait at most to be used again.
    """

    def __init__(self, keep: int = 2) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=keep)

    def take(self, shape: Sequence[int]) -> Tensor:
        """A tensor of this shape; what is in it is undefined."""
        size = math.prod(shape)
        memory = self._reusable(size)
        lease = memory[:size]  # the tensor refers to this view alone, so that it dies with the tensor
        weakref.finalize(lease, self._free.append, memory).atexit = False
        return torch.from_numpy(lease).view(*shape)

    def _reusable(self, size: int) -> NDArray[np.uint8]:
        """A waiting block that is large enough, or a new one."""
        while True:
            try:
                memory = self._free.popleft()
            except IndexError:
                return np.empty(size, np.uint8)
            if len(memory) >= size:
                return memory
