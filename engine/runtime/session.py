"""The context of a run: device, process group, console and stop signal."""

import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType, TracebackType

from common.display import Display
from common.errors import UserError
from configs.schema import Config
from engine.runtime.device import Placement, choose_placement
from engine.runtime.world import World, joined_world, local_rank

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


class StopSignal:
    """While entered, remembers a signal instead of dying from it; a second SIGTERM or SIGINT ends the process at once.

    What is ignored stays so, as SIGHUP under nohup.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def __enter__(self) -> "StopSignal":
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


@dataclass(frozen=True)
class RunContext:
    """Device, process group, console and stop signal of a run."""

    placement: Placement
    world: World
    display: Display
    stop: StopSignal

    def raise_if_interrupted(self) -> None:
        """Raise InterruptionError when this process has had a signal."""
        if self.stop:
            raise InterruptionError(self.stop.number)


@contextmanager
def open_session(config: Config, quiet: bool = False) -> Iterator[RunContext]:
    """Choose the device, join the other processes, take over signals and the terminal; give all back at the end.

    Raises:
        ConfigError: the device, the precision or the number of processes cannot be had.
    """
    placement = choose_placement(config.train.device, config.train.precision, local_rank())
    with joined_world(placement.device, timedelta(seconds=config.train.timeout)) as world, StopSignal() as stop:
        world.local_batch_size(config.loader.batch_size)  # refused now rather than after loading
        with Display(quiet or not world.is_main) as display, _warnings_of(world):
            yield RunContext(placement, world, display, stop)


@contextmanager
def _warnings_of(world: World) -> Iterator[None]:
    """Print what is warned of as one line on stderr, without its line of code, and once for all processes."""
    with warnings.catch_warnings():
        if world.is_main:
            warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        else:
            warnings.simplefilter("ignore")
        yield
