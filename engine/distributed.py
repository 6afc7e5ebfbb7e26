"""The processes that train together: who they are, and sums over all of them; a single process needs no branch."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from configs.errors import ConfigError, UserError

TIMEOUT = timedelta(minutes=10)  # of a collective operation: a rank that dies ends the job, at the latest after this


@dataclass(frozen=True)
class World:
    """This process among the `size` that share every batch."""

    rank: int = 0
    size: int = 1
    control: Any = None  # on CPUs: what the host decides must not wait for a GPU

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """Return this rank's part of the global batch.

        Raises:
            ConfigError: it cannot be divided.
        """
        if batch_size % self.size:
            raise ConfigError(
                f"loader.batch_size: found {batch_size}, which {self.size} processes cannot share equally; "
                f"allowed: multiples of {self.size}"
            )
        return batch_size // self.size

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up `tensor` over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Tell all ranks whether `flag` holds on one of them, without waiting for a GPU."""
        if self.size == 1:
            return flag
        found = torch.tensor([int(flag)])
        dist.all_reduce(found, group=self.control)
        return bool(found)

    def gather(self, tensor: Tensor) -> Tensor:
        """Put `tensor` of all ranks, of one shape everywhere, one behind the other."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    def together(self, work: Callable[[], None]) -> None:
        """Run `work` on every rank; when it fails on one it fails on all, so that none waits for another.

        Raises:
            UserError: what `work` raised here, or that it failed elsewhere.
        """
        failure: UserError | None = None
        try:
            work()
        except UserError as error:
            failure = error
        if self.any(failure is not None):
            raise failure or UserError("another process of this run failed; see its message")

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.any(False)

    def wrap(self, module: nn.Module, all_used: bool = True) -> nn.Module:
        """Average gradients over the ranks in each backward pass; `all_used`: every parameter has one there."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module, find_unused_parameters=not all_used)

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Give all ranks the first one's running statistics, which are those that a checkpoint holds."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


def local_rank() -> int:
    """Return this process's number on its machine, as torchrun says it."""
    return int(os.environ.get("LOCAL_RANK", 0))


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """Join the processes that torchrun started (NCCL on GPUs, gloo on CPUs); without torchrun a world of one."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield World()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    control = dist.new_group(backend="gloo", timeout=TIMEOUT)
    yield World(dist.get_rank(), dist.get_world_size(), control)
    dist.destroy_process_group()  # not after an error: it would wait for ranks that wait for this one
