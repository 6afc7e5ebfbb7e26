"""How many cores a process is really given, by its affinity and its container's quota, and how it waits on them."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from common.cgroups import CGROUPS, OWN_GROUPS, groups_of


def wait_passively() -> None:
    """Let the threads of libraries sleep while they wait, and be no more than the quota; before these are imported.

    OpenMP's threads spin by default, which takes the cores from those that they wait for where other work has them,
    too. What the environment says already stays. The number of threads, on which the last bits of a sum depend, follows
    from what the process is given and not from how busy the machine is.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if usable_cores() < _allowed_cores():  # else libraries count by themselves, cores rather than their threads
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN_GROUPS) -> int:
    """The cores that this process may run on, or the quota of CPU time that it is given, where that is less (>= 1)."""
    quotas = (quota for group in groups_of("cpu", cgroups, own) for quota in _quota(group))
    return max(1, int(min([_allowed_cores(), *quotas])))


def describe_cores() -> str:
    """How many cores there are for this process, and how busy the machine is, where it is busier than it has cores."""
    load, cores = os.getloadavg()[0], usable_cores()
    busy = f", shared: the load is {load:.1f}" if load > (os.cpu_count() or 1) else ""
    return f"{cores} core{'s' if cores > 1 else ''}{busy}"


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(group: Path) -> Iterator[float]:
    """Microseconds of CPU time per microseconds of a period; "max" and -1 are none."""
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:
            yield int(quota) / int(period)
