"""A command of ours in a process of its own, forked so that a hundred of them need not import torch a hundred times."""

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HANGS_AFTER = 300.0  # seconds
LATE = ("torch._dynamo", "torchmetrics", "matplotlib.backends.backend_agg")  # what our commands import as they need it


def import_all() -> None:
    """Import now what each child would take its time for."""
    for name in LATE:
        importlib.import_module(name)


@dataclass
class Child:
    """A process that runs `work` with its output in a file."""

    pid: int
    log: Path
    started: float
    code: int | None = None  # once it has ended

    @classmethod
    def start(cls, work: Callable[[], int], log: Path) -> "Child":
        """Fork; the process ends with what `work` returns, or with 99 and a traceback."""
        pid = os.fork()
        if pid == 0:
            _run(work, log)
        return cls(pid, log, time.monotonic())

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)  # a zombie until poll() has seen its end, so this is never another process

    def wait(self) -> int:
        """Its exit code, or minus the signal that ended it.

        Raises:
            TimeoutError: it hangs; it is killed then.
        """
        while (code := self.poll()) is None:
            if time.monotonic() - self.started > HANGS_AFTER:
                self.kill()
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"hung for {HANGS_AFTER:.0f} s: {self.output()[-500:]}")
            time.sleep(0.005)
        return code

    def poll(self) -> int | None:
        """As wait(), but None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def output(self) -> str:
        """All that it has printed, stdout and stderr together."""
        return self.log.read_text("utf-8", "replace")


def _run(work: Callable[[], int], log: Path) -> None:
    code = 99
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
