"""Workers of a dask.distributed cluster, whose machines see the same files."""

import asyncio
import time
from concurrent.futures import CancelledError, Executor
from contextlib import suppress
from typing import Any, cast

from common.display import Display
from common.errors import ConfigError, UserError
from preprocess.workers import Workers

ANSWER_SECONDS = 4  # that a scheduler may take to answer
ASK_EVERY = 3.0  # seconds without a result, after which it is asked whether it is there
UNDER_WAY = 256  # tasks, so that thousands of shards do not take as many files and as much of the scheduler's memory
GONE = "the cluster's scheduler is gone; what was finished is kept: run the same command again, with another one"
SETTINGS = {
    "logging": dict.fromkeys(("distributed", "distributed.client", "tornado.application"), "critical"),
    "distributed.comm.timeouts.connect": f"{ANSWER_SECONDS}s",
}


class ClusterWorkers(Workers):
    """The workers of the cluster whose scheduler listens at `address`, such as tcp://host:8786.

    A task whose worker is lost is done by another one. The scheduler, too, needs this project in its environment.

    Raises:
        ConfigError: dask.distributed is not installed.
        UserError: no scheduler answers there.
    """

    def __init__(self, address: str, display: Display) -> None:
        super().__init__()
        self._client = _connect(address)
        self._address: str = self._client.scheduler.address
        self._asked = time.monotonic()
        threads = self._client.nthreads()
        self.count = sum(threads.values())
        display.print(
            f"cluster {self._address}: {len(threads)} workers with {self.count} threads; "
            f"dashboard: {self._client.dashboard_link}"
        )
        if not threads:
            display.print(f"waiting for workers: start some with dask worker {self._address}")

    @property
    def is_single(self) -> bool:
        """Never: what is meant for the cluster is done there."""
        return False

    def _start(self) -> Executor:
        return cast(Executor, self._client.get_executor(pure=False))

    def _most_under_way(self) -> int:
        return max(UNDER_WAY, super()._most_under_way())

    def _check(self) -> None:
        """Ask a silent scheduler whether it is there: one that is stopped keeps connections."""
        if self._client.status == "closed":  # a result that was on its way would be waited for in vain
            raise UserError(GONE)
        if time.monotonic() - self._asked > ASK_EVERY:
            self._asked = time.monotonic()
            try:
                asyncio.run(_ask(self._address))
            except (OSError, TimeoutError):
                raise UserError(GONE) from None

    def _stop(self, executor: Executor | None, failed: bool) -> None:
        if executor is not None:
            executor.shutdown(wait=not failed)  # else what waits is called off
        with suppress(Exception):  # a scheduler that is gone cannot be taken leave of
            self._client.close(timeout=1)

    def _explain_failure(self, error: Exception) -> str | None:
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        if isinstance(error, ModuleNotFoundError):
            return f"a worker cannot import {error.name}: start scheduler and workers in this project's environment"
        if isinstance(error, CommClosedError | CancelledError) or self._client.status != "running":
            return GONE
        if not isinstance(error, KilledWorker):
            return None
        reason = str(error).splitlines()[0]
        return f"the cluster gave a task up ({reason}); what was finished is kept: run the same command again"


async def _ask(address: str) -> None:
    """Say hello to what listens at an address as a client does; OSError or TimeoutError where nothing answers."""
    from distributed.comm import connect

    comm = await asyncio.wait_for(connect(address, timeout=ANSWER_SECONDS), ANSWER_SECONDS + 1)
    await comm.close()


def _connect(address: str) -> Any:
    """A client of the scheduler at an address."""
    try:
        import dask

        dask.config.set(SETTINGS)  # read at import; what is wrong is said here, in one message
        from distributed import Client
    except ImportError:
        raise ConfigError(
            "--scheduler: dask.distributed is not installed; it comes with this project's extra `cluster` "
            "(pip install --editable '.[cluster]'), on every machine"
        ) from None
    try:
        asyncio.run(_ask(address))  # a client would wait for ever for a port that takes what it is sent
        return Client(address, timeout=ANSWER_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"--scheduler {address}: no scheduler answers there ({str(error) or 'it is silent'}); start one with "
            "dask scheduler, and give the address that it prints"
        ) from None
