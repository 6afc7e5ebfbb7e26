"""A training in a child process that says where it is, and can be made to end itself there."""

import mmap
import struct
from collections.abc import Callable, Sequence
from typing import Any

import train
from engine.runs import run_folder as runlog
from engine.training.step import TrainStep
from engine.training.trainer import Trainer

PHASES = ("before the first step", "estimating", "training", "validating", "saving", "testing")


class Watch:
    """Memory that a child shares with us: the phase it is in, its steps, checkpoints and estimation steps so far."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def __getitem__(self, index: int) -> int:
        return int(struct.unpack_from("<q", self._memory, 8 * index)[0])

    def __setitem__(self, index: int, value: int) -> None:
        struct.pack_into("<q", self._memory, 8 * index, value)


PHASE, STEPS, SAVES, ESTIMATED = range(4)
Act = Callable[[str], None]  # what a child does to itself: called with "step" after a step, "save" before a checkpoint


def watched(arguments: Sequence[str], watch: Watch, act: Act = lambda what: None) -> Callable[[], int]:
    """train.py with these arguments, to be run in a child, telling `watch` where it is."""

    def work() -> int:
        Trainer.prepare = _phase(Trainer.prepare, "estimating", watch)  # type: ignore[method-assign]
        Trainer.train_epoch = _phase(Trainer.train_epoch, "training", watch)  # type: ignore[method-assign]
        Trainer.score = _phase(Trainer.score, "validating", watch)  # type: ignore[method-assign]
        train._test_best = _phase(train._test_best, "testing", watch)
        runlog.save_checkpoint = _phase(_counted(runlog.save_checkpoint, watch, act), "saving", watch)
        TrainStep.step = _stepping(TrainStep.step, watch, act)  # type: ignore[method-assign]
        return train.main(arguments)

    return work


def _phase(real: Callable[..., Any], name: str, watch: Watch) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        before, watch[PHASE] = watch[PHASE], PHASES.index(name)
        try:
            return real(*arguments, **keywords)
        finally:
            watch[PHASE] = before

    return call


def _counted(real: Callable[..., Any], watch: Watch, act: Act) -> Callable[..., Any]:
    def save(*arguments: Any, **keywords: Any) -> Any:
        watch[SAVES] += 1
        act("save")
        return real(*arguments, **keywords)

    return save


def _stepping(real: Callable[..., Any], watch: Watch, act: Act) -> Callable[..., Any]:
    def step(*arguments: Any) -> Any:
        measured = real(*arguments)
        watch[ESTIMATED if PHASES[watch[PHASE]] == "estimating" else STEPS] += 1
        act("step")
        return measured

    return step
