"""What surrounds a command's work: its device, its processes, its display, and the wish to stop."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from configs.display import Display
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
