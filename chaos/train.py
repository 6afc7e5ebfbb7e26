"""Training that is killed at random moments and resumed: `python -m chaos.train --kills 20`."""

import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import train
from chaos.child import Child, import_all
from chaos.tally import Tally, fault_parser
from engine.runs import run_folder as runlog
from engine.step import TrainStep
from engine.trainer import Trainer
from tests.runs import CONFIG, SMALL, difference, make_data

METHODS = ("xnorm", "misa", "gblend")
OPTIONS = {
    "gblend": (
        "train.lr=0.01",
        "model.estimation_epochs=2",
        "model.estimation_subset=1.0",
        "model.estimation_holdout=0.25",
    )
}
PHASES = ("before the first step", "estimating", "training", "validating", "saving", "testing")
SAME = "weights, metrics and predictions are bit for bit those of a run that was never stopped"


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


@dataclass
class Runs:
    """One method: its uninterrupted run, and the trials against it."""

    method: str
    folder: Path
    data: list[str]
    seconds: float = 0.0
    totals: tuple[int, int, int] = (0, 0, 0)  # steps, checkpoints, estimation steps
    phases: Counter[str] = field(default_factory=Counter)
    trials: int = 0

    def arguments(self, name: str) -> list[str]:
        """The command line of a run in `name`."""
        every = "train.checkpoint_every=2", "train.tensorboard=false"  # its plots take longer than all the steps
        options = (f"model.fusion={self.method}", *OPTIONS.get(self.method, ()), *every)
        return ["-c", str(CONFIG), *self.data, *SMALL, *options, f"runs={self.folder / name}", "--quiet"]

    def path(self, name: str) -> Path:
        """The folder of the run in `name`."""
        return self.folder / name / "xnorm"

    def run_whole(self) -> None:
        """Train without an interruption."""
        watch = Watch()
        child = Child.start(watched(self.arguments("whole"), watch), self.folder / "whole.log")
        assert child.wait() == 0, child.output()
        self.seconds = time.monotonic() - child.started
        self.totals = (watch[STEPS], watch[SAVES], watch[ESTIMATED])

    def trial(self, kill: Callable[[Child, Watch], None], act: Act = lambda what: None) -> tuple[str, int, str]:
        """Start a run, let `kill` do what it likes with it; the folder's name, how it ended, what it printed."""
        self.trials += 1
        name, watch = f"trial{self.trials}", Watch()
        child = Child.start(watched(self.arguments(name), watch, act), self.folder / f"{name}.log")
        kill(child, watch)
        code = child.wait()
        self.phases[PHASES[watch[PHASE]]] += 1
        return name, code, child.output()

    def wait_for_random(self, random: np.random.Generator, child: Child, watch: Watch, least: int) -> None:
        """Wait for a random step, one of an estimation too, and for a part of the time that a step takes."""
        total = self.totals[0] + self.totals[2]
        target = int(random.integers(least, total + 1))
        while watch[STEPS] + watch[ESTIMATED] < target and child.poll() is None:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 1) * self.seconds / total)

    def resumed_equals_whole(self, name: str) -> tuple[str, bool]:
        """Go on by --resume (or begin, where nothing was written), and compare: the outcome, and if it is right."""
        begun = (self.path(name) / "config.yaml").exists()
        arguments = [*self.arguments(name), *(["--resume"] if begun else [])]
        child = Child.start(lambda: train.main(arguments), self.folder / "resumed.log")
        code = child.wait()
        if code:
            return f"exit code {code}: {child.output()[-400:]}", False
        wrong = difference(self.path("whole"), self.path(name))
        scratch = [str(path) for path in self.path(name).rglob(".*")]
        shutil.rmtree(self.folder / name)
        return (f"differs: {wrong or scratch}", False) if wrong or scratch else (SAME, True)


def nothing(child: Child, watch: Watch) -> None:
    """Let the child do it to itself."""


def kill_at_random(runs: Runs, trials: int, random: np.random.Generator, tally: Tally) -> None:
    """`kill -9` at any moment."""
    fault = f"{runs.method}: `kill -9` at a random moment, `--resume`"
    runs.phases.clear()

    def kill(child: Child, watch: Watch) -> None:
        runs.wait_for_random(random, child, watch, 0)
        child.kill()

    for _ in range(trials):
        name, _, _ = runs.trial(kill)
        tally.note(fault, *runs.resumed_equals_whole(name))
    told = ", ".join(f"{phase} {count}x" for phase, count in runs.phases.most_common())
    tally.remark(fault, f"then it was {told}")


def kill_in_estimation(runs: Runs, trials: int, random: np.random.Generator, tally: Tally) -> None:
    """`kill -9` after a random step of the estimation, for the method that has one."""
    for _ in range(trials if runs.totals[2] else 0):
        left = [int(random.integers(1, runs.totals[2] + 1))]

        def act(what: str, left: list[int] = left) -> None:
            left[0] -= what == "step"
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        name, code, said = runs.trial(nothing, act)
        assert code == -signal.SIGKILL, said
        fault = f"{runs.method}: `kill -9` within the estimation, `--resume`"
        tally.note(fault, *runs.resumed_equals_whole(name))


def kill_while_saving(runs: Runs, trials: int, random: np.random.Generator, tally: Tally) -> None:
    """The kernel ends the process inside a write of a random checkpoint, at a random byte of it."""
    sizes = [(runs.path("whole") / name).stat().st_size for name in ("best.pt", "last.pt")]
    for _ in range(trials):
        left, most = [int(random.integers(1, runs.totals[1] + 1))], int(random.integers(1, min(sizes)))

        def act(what: str, left: list[int] = left, most: int = most) -> None:
            left[0] -= what == "save"
            if what == "save" and left[0] == 0:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        name, code, said = runs.trial(nothing, act)
        assert code == -signal.SIGXFSZ, said
        (torn,) = runs.path(name).glob(".*.pt.*.tmp")
        assert torn.stat().st_size == most
        fault = f"{runs.method}: ended by the kernel inside a write of a checkpoint, at a random byte, `--resume`"
        tally.note(fault, *runs.resumed_equals_whole(name))


def stop(runs: Runs, trials: int, random: np.random.Generator, tally: Tally) -> None:
    """SIGTERM or SIGINT, sent once training has begun."""
    fault = f"{runs.method}: SIGTERM or SIGINT at a random moment, `--resume`"
    seconds = []
    for _ in range(trials):
        number, sent = random.choice([signal.SIGTERM, signal.SIGINT]), []

        def kill(child: Child, watch: Watch, number: int = int(number), sent: list[float] = sent) -> None:
            runs.wait_for_random(random, child, watch, 1)
            child.kill(number)
            sent.append(time.monotonic())

        name, code, said = runs.trial(kill)
        seconds.append(time.monotonic() - sent[0])
        tally.note(fault, *_politeness(runs, name, int(number), code, said))
    told = f"from the signal to the end {np.median(seconds):.2f} s in the middle, {max(seconds):.2f} s at most"
    tally.remark(fault, told)


def _politeness(runs: Runs, name: str, number: int, code: int, said: str) -> tuple[str, bool]:
    signal_name, last = signal.Signals(number).name, runs.path(name) / "last.pt"
    outcome, same = runs.resumed_equals_whole(name)
    lines = [text for text in said.strip().splitlines() if not text.startswith("warning: Gradient-Blending")]
    if (code, lines) == (0, []):
        return f"ended by itself, as all but its summary was done; {outcome}", same
    is_polite = code == 128 + number
    is_polite &= lines == [f"stopped by {signal_name}; {last} is saved, --resume goes on from it"]
    return (f"exit code 143 or 130 and one line; {outcome}", same) if is_polite else (f"{code}: {said}", False)


Kind = Callable[[Runs, int, np.random.Generator, Tally], None]
KINDS: dict[str, Kind] = {
    "random": kill_at_random,
    "saving": kill_while_saving,
    "estimation": kill_in_estimation,
    "signals": stop,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trials and print the table."""
    parser = fault_parser("train", "Kill training at random moments; what --resume ends with must be the same bits.")
    parser.add_argument("--kills", type=int, default=20, help="trials of each kind and method (default: %(default)s)")
    kinds = "of interruption (default: %(default)s)"
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=kinds)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="what is trained (default: %(default)s)")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    import_all()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder))
        for method in arguments.methods:
            runs = Runs(method, Path(folder, method), data)
            runs.folder.mkdir()
            runs.run_whole()
            random = np.random.default_rng(arguments.seed)
            for kind in arguments.kinds:
                KINDS[kind](runs, arguments.kills, random, tally)
    return tally.finish("train", arguments.write)


if __name__ == "__main__":
    sys.exit(main())
