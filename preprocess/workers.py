"""Runs tasks in local processes that end with the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from types import TracebackType
from typing import TypeVar

from configs.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

POLL_SECONDS = 0.5


def num_cores() -> int:
    """Cores that this process may use, which a container or a batch queue can make fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Up to `count` processes, started when they are first needed; `fewer` is how a user asks for just one."""

    def __init__(self, count: int, fewer: str = "data.workers=1") -> None:
        self.count = count or num_cores()
        self._fewer = fewer
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:  # nobody waits for tasks whose results nobody takes
            for process in multiprocessing.active_children():
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(
        self, work: Callable[[Task], Result], tasks: Sequence[Task], is_small: bool
    ) -> Iterator[tuple[int, Result] | None]:
        """Yield (position, result) as tasks end, and None now and then while none does.

        A small job is done in this process, where it is over before another would have started.

        Raises:
            UserError: a process died.
        """
        if is_small:
            yield from ((position, work(task)) for position, task in enumerate(tasks))
            return
        try:
            yield from self._run_in_pool(work, tasks)
        except BrokenProcessPool:
            self._pool = None  # the next job gets processes of its own
            raise UserError(
                "a worker process died (killed by hand or for want of memory); what was finished is kept: "
                f"run the same command again, with fewer processes ({self._fewer}) if it was memory"
            ) from None

    def _run_in_pool(
        self, work: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result] | None]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, mp_context=context, initializer=_follow_parent)
        waiting = {self._pool.submit(work, task): position for position, task in enumerate(tasks)}
        while waiting:
            done, _ = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()
            if not done:
                yield None


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end as soon as it does, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
