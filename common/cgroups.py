"""Control groups: where a container, a batch queue or systemd limits this process."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def groups_of(controller: str, cgroups: Path = CGROUPS, own: Path = OWN_GROUPS) -> Iterator[Path]:
    """Folders of this process's groups for `controller` (cpu, memory) and of those around them, of versions 2 and 1."""
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            is_ours = controller in controllers.split(",")  # of version 1; a group of version 2 names none
            mounts = [""] if not controllers else [controller, controllers] if is_ours else []
            for mount in mounts:
                group = cgroups / mount / path.strip("/")
                yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(cgroups))
