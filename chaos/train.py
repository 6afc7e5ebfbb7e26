"""Training that is killed at random moments and resumed: `python -m chaos.train --kills 20`."""

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import train
from chaos.child import Child, import_all
from chaos.tally import Tally, fault_parser
from chaos.watch import ESTIMATED, PHASE, PHASES, SAVES, STEPS, Act, Watch, watched
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
SAME = "weights, metrics and predictions are bit for bit those of a run that was never stopped"


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
        options = (f"model.fusion={self.method}", *OPTIONS.get(self.method, ()), "train.checkpoint_every=2")
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

    def difference(self, name: str) -> str | None:
        """Go on by --resume (or begin, where nothing was written); what is not as in the uninterrupted run."""
        begun = (self.path(name) / "config.yaml").exists()
        arguments = [*self.arguments(name), *(["--resume"] if begun else [])]
        child = Child.start(lambda: train.main(arguments), self.folder / "resumed.log")
        code = child.wait()
        if code:
            return f"exit code {code}: {child.output()[-400:]}"
        wrong = difference(self.path("whole"), self.path(name))
        scratch = [str(path) for path in self.path(name).rglob(".*")]
        shutil.rmtree(self.folder / name)
        return f"differs: {wrong or scratch}" if wrong or scratch else None


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
        tally.note(fault, SAME, runs.difference(name))
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
        tally.note(fault, SAME, runs.difference(name))


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
        tally.note(fault, SAME, runs.difference(name))


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
        _note_stop(tally, fault, runs, name, int(number), code, said)
    told = f"from the signal to the end {np.median(seconds):.2f} s in the middle, {max(seconds):.2f} s at most"
    tally.remark(fault, told)


def _note_stop(tally: Tally, fault: str, runs: Runs, name: str, number: int, code: int, said: str) -> None:
    """Count a run that had a signal: how it ended, and what it was resumed to."""
    signal_name, last = signal.Signals(number).name, runs.path(name) / "last.pt"
    wrong = runs.difference(name)
    lines = [text for text in said.strip().splitlines() if not text.startswith("warning: Gradient-Blending")]
    if (code, lines) == (0, []):
        tally.note(fault, f"ended by itself, as all but its summary was done; {SAME}", wrong)
        return
    if code != 128 + number or lines != [f"stopped by {signal_name}; {last} is saved, --resume goes on from it"]:
        wrong = f"{code}: {said}"
    tally.note(fault, f"exit code 143 or 130 and one line; {SAME}", wrong)


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
