"""Training on several ranks, which agree, die, hang and go on: `python -m chaos.ranks --kills 5`."""

import csv
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chaos.tally import Tally, fault_parser
from tests.runs import CONFIG, SMALL, make_data
from tests.torchrun import DOUBLE, LAUNCHER, ROOT, SIGNAL, SIGNALLED, Job, start

STEPS = 6
OPTIONS = ("model.dropout=0.0", "train.log_every=1", "train.checkpoint_every=2", "train.timeout=10", "--quiet")
KINDS: dict[str, tuple[str, dict[str, str]]] = {  # an option, under which ranks agree, and the environment
    "BatchNorm synchronized, in fp64": ("train.sync_batchnorm=true", {DOUBLE: "1"}),
    "BatchNorm frozen, in fp32": ("model.freeze_trunk=true", {}),
}
ALONE, CLOSE, SCORES_CLOSE = "alone", 1e-5, 1e-6
LOCAL = ("--standalone",)
SAME = "the losses of one process that was never stopped, to 1e-5, each step once"


@dataclass
class Ended:
    """How a job ended: its exit code, what it printed, and how many seconds after the signal it had."""

    code: int
    printed: str
    seconds: float = 0.0


@dataclass
class Runs:
    """Runs of one kind, compared with that of a single process."""

    kind: str
    folder: Path
    data: list[str]
    seconds: dict[str, list[float]] = field(default_factory=dict)  # from a signal to the end of the job

    def command(self, name: str) -> list[str]:
        """The arguments of train.py for a run in `name`."""
        where = (KINDS[self.kind][0], f"runs={self.folder}", f"name={name}")
        return ["-c", str(CONFIG), *self.data, *SMALL, *OPTIONS, *where]

    def start(self, name: str, ranks: int, *more: str, options: Sequence[str] = LOCAL, hit: str = "") -> Job:
        """Start a job; `hit` is the rank, step and number of a signal."""
        environment = KINDS[self.kind][1] | ({SIGNAL: hit} if hit else {})
        return start("tests.torchrun", *self.command(name), *more, ranks=ranks, options=options, **environment)

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Step and loss of every training step in the log."""
        lines = map(json.loads, (self.folder / name / "metrics.jsonl").read_text().splitlines())
        return [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]

    def difference(self, name: str, *jobs: Job) -> str | None:
        """Wait for the jobs of a run; what of it is not as it was in a single process."""
        if failed := [done for done in map(end_of, jobs) if done.code]:
            return failed[0].printed[-500:]
        found, expected = self.curve(name), self.curve(ALONE)
        if [step for step, _ in found] != [step for step, _ in expected]:
            return f"steps {[step for step, _ in found]}"
        most = max(abs(loss - other) for (_, loss), (_, other) in zip(found, expected, strict=True))
        return None if most < CLOSE else f"losses differ by {most:.1e}"

    def note(self, fault: str, seconds: float) -> str:
        """Remember how long a job took to end; the fault with the range of all of them."""
        self.seconds.setdefault(fault, []).append(seconds)
        return fault


def end_of(job: Job) -> Ended:
    """Wait for a job."""
    printed, _ = job.communicate(timeout=300)
    ended = time.time()
    signals = [float(line.split(SIGNALLED)[1]) for line in printed.splitlines() if SIGNALLED in line]
    return Ended(job.returncode, printed, ended - signals[0] if signals else 0.0)


def agree(runs: Runs, tally: Tally) -> None:
    """Two and four ranks learn what one does."""
    for ranks in (2, 4):
        name = f"ranks{ranks}"
        tally.note(f"{ranks} ranks, {runs.kind}", SAME, runs.difference(name, runs.start(name, ranks)))


def score(runs: Runs, tally: Tally) -> None:
    """One, two and four ranks predict the same."""
    weights = runs.folder / ALONE / "best.pt"
    for ranks in (1, 2, 4):
        arguments = ["eval.py", *runs.command("scored"), "--checkpoint", str(weights), "--split", "train"]
        command = [*LAUNCHER, *LOCAL, f"--nproc_per_node={ranks}", *arguments]
        subprocess.run([*command, "-o", str(runs.folder / f"scored{ranks}")], cwd=ROOT, check=True, capture_output=True)
    first = predictions(runs.folder / "scored1")
    for ranks in (2, 4):
        found = predictions(runs.folder / f"scored{ranks}")
        same = [row[:3] for row in found] == [row[:3] for row in first]  # clip, label, predicted class
        scores = [np.array([row[3:] for row in rows], float) for rows in (found, first)]
        most = float(np.abs(scores[0] - scores[1]).max())
        wrong = None if same and most < SCORES_CLOSE else f"other classes, or scores that differ by {most:.1e}"
        tally.note(f"`eval.py` on {ranks} ranks", "the classes that one rank predicts, scores to 1e-6", wrong)


def predictions(folder: Path) -> list[list[str]]:
    """The rows of predictions.csv."""
    with open(folder / "predictions.csv", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def hit(runs: Runs, number: int, random: np.random.Generator, tally: Tally) -> None:
    """A random rank of two or four has a signal at a random step; the job ends, and any number of ranks goes on."""
    before, ranks = int(random.choice([2, 4])), int(random.choice([1, 2, 4]))
    rank, step = random.integers(before), random.integers(1, STEPS)
    name = f"hit{number}-{before}-{rank}-{step}-{ranks}-{random.integers(10**6)}"
    done = end_of(runs.start(name, before, hit=f"{rank}:{step}:{number}"))
    said = "another process of this run has died, or does not answer any more" in done.printed
    what = {signal.SIGKILL: "`kill -9` of", signal.SIGSTOP: "SIGSTOP to"}[signal.Signals(number)]
    fault = runs.note(f"{what} one of {before} ranks at a random step, `train.timeout=10`", done.seconds)
    good = done.code == 1 and (said or number == signal.SIGKILL)
    tally.note(fault, "the job ends with exit code 1", None if good else done.printed[-500:])
    wrong = runs.difference(name, runs.start(name, ranks, "--resume", "auto"))
    tally.note(f"and `--resume auto` on {ranks} rank{'s' if ranks > 1 else ''}", SAME, wrong)


def restart(runs: Runs, random: np.random.Generator, tally: Tally) -> None:
    """A random rank of two dies at a random step under --max-restarts."""
    rank, step = random.integers(2), random.integers(1, STEPS + 1)
    name = f"restart-{rank}-{step}"
    job = runs.start(name, 2, options=[*LOCAL, "--max-restarts=1"], hit=f"{rank}:{step}:9")
    fault = "`kill -9` of one of two ranks at a random step, restarted by torchrun (`--max-restarts=1`)"
    tally.note(fault, SAME, runs.difference(name, job))


def restart_on_two_machines(runs: Runs, tally: Tally) -> None:
    """The same with a torchrun each for the two ranks, as on two machines."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=1")
    options = ("--nnodes=2", "--max-restarts=1", *meeting)
    jobs = [runs.start("machines", 1, options=options, hit="1:5:9") for _ in range(2)]
    wrong = runs.difference("machines", *jobs)
    tally.note("the same with two torchruns of one rank, as on two machines", SAME, wrong)


def preempt(runs: Runs, tally: Tally) -> None:
    """Torchrun has a SIGTERM, as from a batch queue."""
    done = end_of(runs.start("preempted", 2, hit="0:3:-15"))
    fault = runs.note("SIGTERM to `torchrun`", done.seconds)
    good = "is saved, --resume goes on from it" in done.printed
    tally.note(fault, "the step under way is saved", None if good else done.printed[-500:])
    wrong = runs.difference("preempted", runs.start("preempted", 2, "--resume"))
    tally.note("and `--resume`", SAME, wrong)


def try_the_rest(kinds: Sequence[Runs], restarts: int, random: np.random.Generator, tally: Tally) -> None:
    """All faults but the plain kill."""
    for runs in kinds:
        agree(runs, tally)
    score(kinds[1], tally)
    hit(kinds[1], signal.SIGSTOP, random, tally)
    for number in range(restarts):
        restart(kinds[number % 2], random, tally)
    restart_on_two_machines(kinds[0], tally)
    preempt(kinds[1], tally)


def main() -> int:
    """Run all of it; the exit code says whether everything ended as it must."""
    parser = fault_parser("ranks", "Let the ranks of a training agree, die, hang and go on.")
    parser.add_argument("--kills", type=int, default=5, help="of a rank (default: %(default)s)")
    restarts = "kills of a rank that torchrun starts again (default: %(default)s)"
    parser.add_argument("--restarts", type=int, default=2, help=restarts)
    arguments = parser.parse_args()
    random, tally = np.random.default_rng(arguments.seed), Tally()
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder))
        kinds = [Runs(kind, Path(folder) / f"runs{number}", data) for number, kind in enumerate(KINDS)]
        for runs in kinds:
            done = end_of(runs.start(ALONE, 1))
            assert done.code == 0, done.printed
        for number in range(arguments.kills):
            hit(kinds[number % 2], signal.SIGKILL, random, tally)
        try_the_rest(kinds, arguments.restarts, random, tally)
        for fault in {fault for runs in kinds for fault in runs.seconds}:
            seconds = [each for runs in kinds for each in runs.seconds.get(fault, [])]
            tally.remark(fault, f"{min(seconds):.1f} to {max(seconds):.1f} s after the signal")
    return tally.finish("ranks", arguments.write)


if __name__ == "__main__":
    sys.exit(main())
