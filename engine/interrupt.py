"""Signals as a request to stop at the next step, with everything saved."""

import signal
from types import FrameType, TracebackType

from configs.errors import UserError

ENDING = (signal.SIGTERM, signal.SIGINT)
NOTICES = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)  # of a batch queue that will kill, of a terminal that is gone


class InterruptionError(UserError):
    """A signal ended the work; `hint` says what is saved and how to go on."""

    prefix = ""
    is_shared = True

    def __init__(self, number: int | None, hint: str = "") -> None:
        self.number = number  # None: it was another rank that had the signal
        what = signal.Signals(number).name if number else "a signal to another process"
        super().__init__(f"stopped by {what}" + (f"; {hint}" if hint else ""))
        self.exit_code = 128 + (number or signal.SIGTERM)  # as shells report it: 143 for SIGTERM, 130 for Ctrl-C


class StopRequest:
    """While entered, remembers a signal instead of dying from it; a second SIGTERM or SIGINT ends the process at once.

    What is ignored stays so, as SIGHUP under nohup.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def __enter__(self) -> "StopRequest":
        notices = [number for number in NOTICES if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._remember) for number in (*ENDING, *notices)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in ENDING:
            signal.signal(each, signal.SIG_DFL)
