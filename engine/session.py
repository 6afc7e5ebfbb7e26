"""What surrounds a command's work: its device, its processes, its display, and the wish to stop."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from configs.display import Display
from configs.errors import ConfigError, UserError, message
from configs.schema import Config
from engine.device import Placement, choose_placement
from engine.distributed import World, joined_world, local_rank
from engine.interrupt import InterruptionError, StopRequest


@dataclass(frozen=True)
class Session:
    """The surroundings, handed to all that work in them."""

    placement: Placement
    world: World
    display: Display
    stop: StopRequest

    def leave_if_asked(self) -> None:
        """Raise InterruptionError when this process has had a signal."""
        if self.stop:
            raise InterruptionError(self.stop.number)


@contextmanager
def open_session(config: Config, quiet: bool = False) -> Iterator[Session]:
    """Choose the device, join the other processes, take over signals and the terminal; give all back at the end.

    Raises:
        ConfigError: the device, the precision or the number of processes cannot be had.
    """
    placement = choose_placement(config.train.device, config.train.precision, local_rank())
    with joined_world(placement.device, timedelta(seconds=config.train.timeout)) as world, StopRequest() as stop:
        world.share(config.loader.batch_size)  # refused now rather than after loading
        with Display(quiet or not world.is_main) as display, _warnings_of(world):
            yield Session(placement, world, display, stop)


@contextmanager
def _warnings_of(world: World) -> Iterator[None]:
    """Print what is warned of as one line on stderr, without the place in the code, and once for all processes."""
    with warnings.catch_warnings():
        if world.is_main:
            warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        else:
            warnings.simplefilter("ignore")
        yield


def exit_code_of(work: Callable[[], int]) -> int:
    """Run a command's body; turn a user's mistake or a signal into one line on stderr and an exit code."""
    try:
        return work()
    except InterruptionError as interrupted:
        if local_rank() == 0:
            print(interrupted, file=sys.stderr)
        return interrupted.exit_code
    except (UserError, OSError, RuntimeError) as error:
        if local_rank() == 0 or not isinstance(error, ConfigError):  # every rank finds the same fault in a config
            print(f"error: {message(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, UserError) else UserError.exit_code
