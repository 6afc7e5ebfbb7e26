"""Process group: ranks, and collectives over them that also hold for a single process."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from common.errors import ConfigError, UserError
from engine.runtime.batchnorm import synchronize
from engine.runtime.rendezvous import TorchrunJob, has_agent, open_store, read_environment, rendezvous


@dataclass(frozen=True)
class World:
    """This process among the `size` that share every batch."""

    rank: int = 0
    size: int = 1
    control: Any = None  # on CPUs: what the host decides must not wait for a GPU
    job: TorchrunJob = field(default_factory=TorchrunJob)

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def local_batch_size(self, batch_size: int, accumulate: int = 1) -> int:
        """Return this rank's part of the global batch, which goes through the model in `accumulate` parts.

        Raises:
            ConfigError: it cannot be divided.
        """
        if batch_size % (self.size * accumulate):
            parts = f" in {accumulate} parts each (train.accumulate)" if accumulate > 1 else ""
            raise ConfigError(
                f"loader.batch_size: found {batch_size}, which {self.size} processes cannot share equally{parts}; "
                f"allowed: multiples of {self.size * accumulate}"
            )
        return batch_size // self.size

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up `tensor` over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Average tensors over all ranks, in place; of one type, and each of them dense in memory."""
        if self.size == 1:
            return
        values = [tensor.as_strided((tensor.numel(),), (1,)) for tensor in tensors]  # in the order of memory
        message = torch.cat(values).div_(self.size)
        dist.all_reduce(message)
        torch._foreach_copy_(values, torch.split(message, [len(value) for value in values]))

    def any_rank(self, flag: bool) -> bool:
        """Tell all ranks whether `flag` holds on one of them, without waiting for a GPU."""
        if self.size == 1:
            return flag
        found = torch.tensor([int(flag)])
        dist.all_reduce(found, group=self.control)
        return bool(found)

    def gather(self, tensor: Tensor) -> Tensor:
        """Put `tensor` of all ranks, of one shape everywhere, one after the other."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    def gather_texts(self, text: str) -> list[str]:
        """Return the `text` of each rank, in their order."""
        if self.size == 1:
            return [text]
        data = torch.tensor(list(text.encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(data)]), group=self.control)
        longest = max(int(length) for length in lengths)
        parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(parts, torch.nn.functional.pad(data, (0, longest - len(data))), group=self.control)
        return [bytes(part[: int(length)].tolist()).decode() for part, length in zip(parts, lengths, strict=True)]

    def run_on_all_ranks(self, work: Callable[[], None]) -> None:
        """Run `work` on every rank; when it fails on one it fails on all, so that none waits for another.

        Raises:
            UserError: what `work` raised here, or that it failed elsewhere.
        """
        failure: UserError | None = None
        try:
            work()
        except UserError as error:
            failure = error
        if self.any_rank(failure is not None):
            raise failure or UserError("another process of this run failed; see its message")

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.any_rank(False)

    def wrap(self, module: nn.Module, all_used: bool = True, sync_batchnorm: bool = False) -> nn.Module:
        """Average gradients over the ranks in each backward pass; `all_used`: every parameter has one there.

        With `sync_batchnorm`, BatchNorm has statistics over the clips of all ranks, which a single one has anyhow.
        """
        if self.size == 1:
            return module
        if sync_batchnorm:
            synchronize(module, next(module.parameters()).device)
        return DistributedDataParallel(module, find_unused_parameters=not all_used)

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Give all ranks the first one's running statistics, which are those that a checkpoint holds."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


def unsynchronized(module: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which backward passes through what World.wrap made leave each rank its own gradients."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def local_rank() -> int:
    """Return this process's number on its machine, as torchrun says it."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_size() -> int:
    """Return how many processes this machine has, as torchrun says it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


@contextmanager
def joined_world(device: torch.device, timeout: timedelta) -> Iterator[World]:
    """Join the processes that torchrun started (NCCL on GPUs, gloo on CPUs); without torchrun a world of one.

    Raises:
        ConfigError: torchrun's variables are there in part.
        UserError: another process is dead, or has let this one wait for longer than `timeout`.
    """
    rank, size = read_environment()
    if size == 1:
        yield World(job=TorchrunJob.current(open_store(timeout) if has_agent() else None))
        return
    try:
        store = open_store(timeout)
        job = TorchrunJob.current(store)
        attempt = rendezvous(store, rank, size, timeout)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=attempt, rank=rank, world_size=size, timeout=timeout)
        control = dist.new_group(backend="gloo", timeout=timeout)
        yield World(rank, size, control, job)
    except RuntimeError as error:
        if not _is_of_others(error):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(f"another process of this run has died, or does not answer any more ({reason})") from error
    dist.destroy_process_group()  # not after an error: it would wait for ranks that wait for this one


def _is_of_others(error: RuntimeError) -> bool:
    """Whether a collective failed rather than something of this process alone."""
    return isinstance(error, dist.DistError) or re.search("gloo|nccl", str(error), re.IGNORECASE) is not None
