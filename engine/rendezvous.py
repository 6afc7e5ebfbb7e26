"""Lets the processes of one attempt meet: torchrun's store outlives a restart, with the addresses of the dead in it."""

import os
import secrets
import time
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from configs.errors import UserError

_ATTEMPT, _BEGUN = "xnorm/attempt", "xnorm/begun"
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Job:
    """What one torchrun has started, over all of its attempts; without torchrun, this process alone."""

    restarted: bool = False  # an earlier attempt had begun to work
    _store: Store | None = None

    def note_begun(self) -> None:
        """Let the attempts after this one go on with what this one is about to write."""
        if self._store is not None:
            self._store.set(_BEGUN, "")


def find_job(store: Store | None) -> Job:
    """Return the job as `store` knows it; before any process of this attempt notes that it has begun."""
    return Job(store is not None and store.check([_BEGUN]), store)


def has_agent() -> bool:
    """Whether torchrun keeps a store for its processes, from their first attempt to the last."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def open_store(timeout: timedelta) -> Store:
    """Connect to the store at the master's address: torchrun's own, or else the first rank's."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosts = not has_agent() and int(os.environ["RANK"]) == 0
    return TCPStore(address, port, int(os.environ["WORLD_SIZE"]), hosts, timeout)


def meet(store: Store, rank: int, size: int, timeout: timedelta) -> Store:
    """Wait for the other processes of this attempt; return a part of `store` that is theirs alone.

    The environment does not say which attempt this is: TORCHELASTIC_RESTART_COUNT differs between machines when only
    one of them saw a process die. So the first rank names the attempt, and the others answer until they are named back.

    Raises:
        UserError: some did not come in time.
    """
    name = secrets.token_hex(8)
    if rank == 0:
        store.set(_ATTEMPT, name)
        names = [store.get(f"{name}/{other}").decode() for other in range(1, size)]
        store.set(f"{name}/all", " ".join(names))
        return PrefixStore(name, store)
    deadline = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < deadline:
        attempt = store.get(_ATTEMPT).decode()  # perhaps of an attempt that is over, which will not name us
        store.set(f"{attempt}/{rank}", name)
        if store.check([f"{attempt}/all"]) and name in store.get(f"{attempt}/all").decode().split():
            return PrefixStore(attempt, store)
        time.sleep(POLL_SECONDS)
    raise UserError(f"the {size} processes of this run did not meet within {timeout.total_seconds():g} s")
