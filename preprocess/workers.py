"""Worker processes on this machine: run tasks, end with the process that started them."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from typing import TypeVar

from common.cores import usable_cores
from common.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
Numbered = TypeVar("Numbered")

POLL_SECONDS = 0.5
SMALL_JOB_BYTES = 8 * 2**20  # copied and checked in less time than processes need to start
TASKS_PER_PROCESS = 4  # under way or waiting for it
STOPS = (signal.SIGINT, signal.SIGTERM)


def is_small_job(num_bytes: int) -> bool:
    """Whether a job that copies so much is over before other processes would have started."""
    return num_bytes < SMALL_JOB_BYTES


class Workers:
    """Runs tasks on an Executor; subclasses define start, stop and the report of a loss.

    Here: up to `count` processes of this machine. `fewer` is how a user asks for just one.
    """

    def __init__(self, count: int = 0, fewer: str = "data.workers=1") -> None:
        self.count = count or usable_cores()
        self._fewer = fewer
        self._executor: Executor | None = None

    @property
    def is_single(self) -> bool:
        """Whether one other process is all there is: it could do no more than this one."""
        return self.count == 1

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop(self._executor, failed=kind is not None)

    def map(
        self,
        work: Callable[[Task], Result],
        tasks: Sequence[Task],
        is_small: bool,
        on_progress: Callable[[int | None], object] = lambda _: None,
    ) -> list[Result]:
        """Do all tasks; return their results in the order of the tasks.

        A small job is done in this process, where it is over before another would have started. `on_progress` is given
        the position of each task that ends, and None now and then while none does.

        Raises:
            UserError: a task's own, or that the process which did it was lost.
        """
        results: dict[int, Result] = {}
        here = ((position, work(task)) for position, task in enumerate(tasks))
        try:
            for done in here if is_small else self._run(work, tasks):
                if done is not None:
                    results[done[0]] = done[1]
                on_progress(None if done is None else done[0])
        except Exception as error:
            message = None if is_small else self._explain_failure(error)
            if message is None:
                raise
            raise UserError(message) from None
        return [results[position] for position in range(len(tasks))]

    def _run(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result] | None]:
        """Yield (position, result) as tasks end, and None now and then while none does.

        A few tasks per process are under way: what is handed out all at once costs files and memory.
        """
        with _stops_waiting():
            if self._executor is None:  # started when it is first needed
                self._executor = self._start()
            executor, todo = self._executor, deque(enumerate(tasks))
            waiting = {executor.submit(work, task): number for number, task in _take(todo, self._most_under_way())}
        while waiting:
            done, _ = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()
                waiting |= {executor.submit(work, task): number for number, task in _take(todo, 1)}
            if not done:
                self._check()
                yield None

    def _most_under_way(self) -> int:
        return TASKS_PER_PROCESS * self.count

    def _start(self) -> Executor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.count, mp_context=context, initializer=_follow_parent)

    def _check(self) -> None:
        """Raise a UserError for a loss that no task would report; asked for while none ends."""

    def _stop(self, executor: Executor | None, failed: bool) -> None:
        if executor is None:
            return
        if failed:  # nobody waits for tasks whose results nobody takes
            for process in multiprocessing.active_children():
                process.terminate()
        executor.shutdown(wait=True, cancel_futures=True)

    def _explain_failure(self, error: Exception) -> str | None:
        """What to tell a user of an error that is none of the task's own, or None."""
        if not isinstance(error, BrokenProcessPool):
            return None
        assert self._executor is not None
        for process in multiprocessing.active_children():  # one that was just starting may not have been told
            process.kill()
        self._executor.shutdown()  # its thread is closing pipes that Python's own exit would write to
        self._executor = None  # the next job gets processes of its own
        return (
            "a worker process died (killed by hand or for want of memory); what was finished is kept: "
            f"run the same command again, with fewer processes ({self._fewer}) if it was memory"
        )


def _take(todo: deque[Numbered], most: int) -> list[Numbered]:
    """The first tasks of those to do, which are taken from there."""
    return [todo.popleft() for _ in range(min(most, len(todo)))]


@contextmanager
def _stops_waiting() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM while processes start: half-started ones print tracebacks."""
    caught: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: caught.append(number)) for number in STOPS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # the processes inherit it, until _follow_parent
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if caught:
            signal.raise_signal(caught[0])


def _follow_parent() -> None:
    """Leave Ctrl-C and a batch queue's signals to the parent; end as soon as it does."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)  # see _stops_waiting
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
