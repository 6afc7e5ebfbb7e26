"""Rendezvous for one torchrun restart; the store still holds the addresses of processes that died."""

import os
import queue
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from common.errors import ConfigError, UserError

OF_A_RANK, OF_THE_STORE = ("RANK", "WORLD_SIZE"), ("MASTER_ADDR", "MASTER_PORT")
_ATTEMPT, _BEGUN = "xnorm/attempt", "xnorm/begun"
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class TorchrunJob:
    """What one torchrun has started, over all of its attempts; without torchrun, this process alone."""

    restarted: bool = False  # an earlier attempt had begun to work
    _store: Store | None = None

    @classmethod
    def current(cls, store: Store | None) -> "TorchrunJob":
        """Return the job as `store` knows it; before any process of this attempt notes that it has begun."""
        return cls(store is not None and store.check([_BEGUN]), store)

    def mark_started(self) -> None:
        """Let the attempts after this one go on with what this one is about to write."""
        if self._store is not None:
            self._store.set(_BEGUN, "")


def read_environment() -> tuple[int, int]:
    """Return this process's rank and how many there are, as torchrun or a batch script says it; 0 and 1 without.

    Raises:
        ConfigError: the variables are there in part, or are no numbers that fit.
    """
    needed = [*OF_A_RANK, *(OF_THE_STORE if os.environ.get("WORLD_SIZE", "1") != "1" else ())]
    missing = [name for name in needed if not os.environ.get(name)]
    if not os.environ.keys() & {*OF_A_RANK, "LOCAL_RANK"}:
        return 0, 1
    if missing:
        raise ConfigError(
            f"the environment has {', '.join(sorted(os.environ.keys() & {*OF_A_RANK, *OF_THE_STORE, 'LOCAL_RANK'}))} "
            f"and lacks {', '.join(missing)}, which torchrun sets together; start this with torchrun, or unset them"
        )
    numbers = {name: os.environ.get(name, "0") for name in (*OF_A_RANK, "LOCAL_RANK", "MASTER_PORT")}
    wrong = {name: text for name, text in numbers.items() if not text.isdecimal()}
    if wrong or int(numbers["RANK"]) >= int(numbers["WORLD_SIZE"]):
        found = ", ".join(f"{name}={text}" for name, text in (wrong or numbers).items())
        raise ConfigError(f"the environment has {found}; allowed: numbers from 0 on, and a RANK below WORLD_SIZE")
    return int(numbers["RANK"]), int(numbers["WORLD_SIZE"])


def has_agent() -> bool:
    """Whether torchrun keeps a store for its processes, from their first attempt to the last."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def open_store(timeout: timedelta) -> Store:
    """Connect to the store at the master's address: torchrun's own, or else the first rank's.

    In a thread, as a port on which something else listens may never answer, which torch waits for without an end.

    Raises:
        UserError: nobody answers in time, or who answers is no store.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosts = not has_agent() and os.environ["RANK"] == "0"
    found: queue.SimpleQueue[Store | RuntimeError] = queue.SimpleQueue()

    def connect() -> None:
        try:
            found.put(TCPStore(address, port, int(os.environ["WORLD_SIZE"]), hosts, timeout))
        except RuntimeError as error:
            found.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        store = found.get(timeout=timeout.total_seconds())
    except queue.Empty:
        store = RuntimeError(f"no answer within {timeout.total_seconds():g} s")
    if isinstance(store, RuntimeError):
        raise UserError(
            f"MASTER_ADDR={address}, MASTER_PORT={port}: the processes of this run cannot meet there "
            f"({str(store).splitlines()[0]}): not all of them have started, or something else listens on that port"
        )
    return store


def rendezvous(store: Store, rank: int, size: int, timeout: timedelta) -> Store:
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
