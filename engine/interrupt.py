"""SIGTERM and SIGINT as a request to stop at the next step, with everything saved."""

import signal
from types import FrameType, TracebackType

from configs.errors import UserError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class InterruptionError(UserError):
    """A signal ended the work; `hint` says what is saved and how to go on."""

    prefix = ""
    is_shared = True

    def __init__(self, number: int | None, hint: str = "") -> None:
        self.number = number or signal.SIGTERM  # None: it was another rank that had the signal
        super().__init__(f"stopped by {signal.Signals(self.number).name}" + (f"; {hint}" if hint else ""))
        self.exit_code = 128 + self.number  # as shells report it: 143 for SIGTERM, 130 for Ctrl-C


class StopRequest:
    """While entered, remembers the first signal instead of dying from it; a second one ends the process at once."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
