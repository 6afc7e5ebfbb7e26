"""The errors that a person's input can cause: one message each, never a traceback."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from common.memory import is_shortage, oom_message


class UserError(Exception):
    """The work failed for a reason that the user can mend: where, what was found, what is allowed (exit code 1)."""

    exit_code = 1
    prefix = "error: "
    is_shared = False  # whether every process of a run finds it, so that one of each machine says it


class ConfigError(UserError):
    """The command line or the configuration is wrong (exit code 2)."""

    exit_code = 2
    is_shared = True


def listed(names: Sequence[str], most: int = 20, separator: str = ", ") -> str:
    """The first of some names, and how many more there are."""
    more = [f"... and {len(names) - most:,} more"] if len(names) > most else []
    return separator.join([*names[:most], *more])


def exit_code_of(work: Callable[[], int], kept: str = "complete files are kept") -> int:
    """Run a command's body; turn a user's mistake or a signal into one line on stderr and an exit code.

    `kept` says what an interruption leaves, and how to go on.
    """
    try:
        with _interruptible():
            return work()
    except KeyboardInterrupt as interrupt:
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        print(f"\ninterrupted; {kept}", file=sys.stderr)
        return 128 + int(number)  # as shells report it
    except Exception as error:
        text = message(error)
        if text is None:
            raise
        if not getattr(error, "is_shared", False) or os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"{getattr(error, 'prefix', UserError.prefix)}{text}", file=sys.stderr)
        return getattr(error, "exit_code", UserError.exit_code)


def message(error: Exception) -> str | None:
    """What a person reads of it, for what the system refuses (a full disk) where and why; None: a fault of ours."""
    if isinstance(error, UserError):
        return str(error)
    if is_shortage(error):
        return oom_message(error)
    if not isinstance(error, OSError):
        return None
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt for Ctrl-C, for what a batch queue sends before it kills, and for a vanished terminal.

    What is ignored stays so (nohup, a shell's background jobs); a process's second thread cannot handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in signals}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number))
