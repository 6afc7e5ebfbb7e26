"""Too little memory: how it shows, how much there is, and what to lower."""

import re
from contextlib import suppress
from pathlib import Path

# How torch, on a GPU and on a CPU, CUDA, DALI and C++ say that there is none left.
_SHORTAGE = re.compile(r"out of memory|can't allocate memory|Cannot allocate memory|bad_alloc|MemoryAllocation")
_GPU = re.compile(r"cuda|gpu", re.IGNORECASE)
LOWER = "lower loader.batch_size, clip.num_frames or clip.crop_size"
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # of a container or a batch queue's job, as it sees it


def is_shortage(error: RuntimeError) -> bool:
    """Whether it is memory that is wanting."""
    return _SHORTAGE.search(str(error)) is not None


def shortage(error: RuntimeError) -> str:
    """Say whose memory is full, and what to lower."""
    found = next(line.strip() for line in str(error).splitlines() if _SHORTAGE.search(line))
    if _GPU.search(found):
        return f"the GPU's memory is full ({found}); {LOWER}; train.precision=bf16 and loader.device=cpu save some, too"
    return f"this machine's memory is full ({found}); {LOWER}; loader.prefetch=1 saves some, too"


def available_bytes(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """How much memory a process can still take, of the machine's and of its container's; None where neither is told."""
    found = []
    with suppress(OSError, KeyError, ValueError):
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with suppress(OSError, ValueError):  # a ValueError: "max", no limit
        found.append(int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text()))
    return min(found) if found else None
