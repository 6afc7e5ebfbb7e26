"""Too little memory: how it shows, how much there is, and what to lower."""

import re
from contextlib import suppress
from pathlib import Path

from common.cgroups import CGROUPS, OWN_GROUPS, groups_of

# How torch, on a GPU and on a CPU, CUDA, DALI, C++, OpenCV and the system say that there is none left.
_SHORTAGE = re.compile(
    r"out of memory|can't allocate memory|Cannot allocate memory|bad_alloc|MemoryAllocation|Insufficient memory"
    r"|can't start new thread|failed to map segment",
)
_GPU = re.compile(r"cuda|gpu", re.IGNORECASE)
# Not crop_size, which leaves less of the frame to be seen.
LOWER = "raise train.accumulate, or lower loader.batch_size or clip.num_frames"
MEMINFO = Path("/proc/meminfo")


def is_shortage(error: BaseException) -> bool:
    """Whether it is memory that is wanting."""
    return isinstance(error, MemoryError) or _SHORTAGE.search(str(error)) is not None


def oom_message(error: BaseException) -> str:
    """Say whose memory is full, and what to lower."""
    lines = [line.strip() for line in str(error).splitlines()]
    found = next((line for line in lines if _SHORTAGE.search(line)), " ".join(lines) or type(error).__name__)
    if _GPU.search(found) and not isinstance(error, ImportError):  # libtorch_cuda.so is read by the host
        return f"the GPU's memory is full ({found}); {LOWER}; train.precision=bf16 and loader.device=cpu save some, too"
    return f"this machine's memory is full ({found}); {LOWER}; loader.prefetch=1 saves some, too"


def available_bytes(meminfo: Path = MEMINFO, cgroups: Path = CGROUPS, own: Path = OWN_GROUPS) -> int | None:
    """How much memory a process can still take, of the machine's and of its container's; None where neither is told."""
    found = []
    with suppress(OSError, KeyError, ValueError):
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    for group in groups_of("memory", cgroups, own):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with suppress(OSError, ValueError):  # a ValueError: "max", no limit
                found.append(int((group / limit).read_text()) - int((group / used).read_text()))
    return min(found) if found else None
