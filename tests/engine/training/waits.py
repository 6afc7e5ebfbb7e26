"""Counts on a CPU what would make the host wait for a GPU: by the calls of a tensor's methods, and by what they run."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CALLS = {"item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__"}
OPERATIONS = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal"}
INDEXING = {"index", "index_put", "index_put_"}


class CountCalls(TorchFunctionMode):
    """Notes each method that hands a tensor's values to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in CALLS:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


class CountOperations(TorchDispatchMode):
    """Notes each operation whose result has a size or a value that the host must know, in the backward pass, too."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in OPERATIONS or (name in INDEXING and any(map(is_mask, args[1]))):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def is_mask(index: object) -> bool:
    """Whether indexing by this takes as many elements as it has true ones."""
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
