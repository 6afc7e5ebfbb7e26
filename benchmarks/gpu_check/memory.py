"""Memory of the loader's two pipelines over many batches: the device's, and this process's."""

from collections.abc import Iterator
from itertools import chain, islice, repeat

import torch

from benchmarks.gpu_check.base import Check, Row, Setup
from benchmarks.gpu_check.loaders import open_loader
from benchmarks.memory import resident_mib

BATCH = 2  # clips: it is the number of batches that leaks add up with
GROWTH = 64.0  # MiB over all batches but the first tenth


def used_mib(setup: Setup) -> dict[str, float]:
    """MiB in use now, on the device by all (torch's allocator does not see DALI's), and by this process."""
    used = {"resident MiB": resident_mib()}
    if setup.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(setup.device)
        used["device MiB"] = (total - free) / 2**20
    return used


def run(setup: Setup) -> Iterator[Row]:
    """A row after a tenth of the batches and one after all."""
    done, before = 0, dict[str, float]()
    with open_loader(setup, "window", "dali", batch_size=BATCH) as loader:
        batches = chain.from_iterable(repeat(loader))
        for target in (max(1, setup.loaded // 10), setup.loaded):
            for batch in islice(batches, target - done):
                batch.labels.cpu()
            done, used = target, used_mib(setup)
            grown = max((used[name] - before[name] for name in before), default=0.0)
            yield {"batches": done, **used, "ok": grown <= GROWTH}
            before = used


CHECK = Check("memory", "memory of two pipelines", run)
