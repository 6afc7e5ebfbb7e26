"""Runs tasks on a dask.distributed cluster, whose machines see the same files under the same names."""

from concurrent.futures import CancelledError, Executor
from typing import Any

from configs.display import Display
from configs.errors import ConfigError, UserError
from preprocess.workers import Workers

CONNECT_SECONDS = 10
GONE = "the cluster's scheduler is gone; what was finished is kept: run the same command again, with another one"
SILENT = dict.fromkeys(("distributed", "distributed.client", "tornado.application"), "critical")


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
        threads = self._client.nthreads()
        display.line(
            f"cluster {address}: {len(threads)} workers with {sum(threads.values())} threads; "
            f"dashboard: {self._client.dashboard_link}"
        )
        if not threads:
            display.line(f"waiting for workers: start some with dask worker {address}")

    def _start(self) -> Executor:
        executor: Executor = self._client.get_executor(pure=False)
        return executor

    def _check(self) -> None:
        if self._client.status == "closed":  # a result that was on its way would be waited for in vain
            raise UserError(GONE)

    def _stop(self, executor: Executor | None, failed: bool) -> None:
        if executor is not None:
            executor.shutdown(wait=not failed)  # else what waits is called off
        self._client.close()

    def _explain_failure(self, error: Exception) -> str | None:
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        if isinstance(error, ModuleNotFoundError):
            return f"a worker cannot import {error.name}: start scheduler and workers in this project's environment"
        if isinstance(error, CommClosedError | CancelledError):
            return GONE
        if not isinstance(error, KilledWorker):
            return None
        reason = str(error).splitlines()[0]
        return f"the cluster gave a task up ({reason}); what was finished is kept: run the same command again"


def _connect(address: str) -> Any:
    try:
        import dask

        dask.config.set({"logging": SILENT})  # read at import; what is wrong is said here, in one message
        from distributed import Client
    except ImportError:
        raise ConfigError(
            "--scheduler: dask.distributed is not installed; it comes with this project's extra `cluster` "
            "(pip install --editable '.[cluster]'), on every machine"
        ) from None
    try:
        return Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--scheduler {address}: no scheduler answers there ({error}); start one with dask scheduler, "
            "and give the address that it prints"
        ) from None
