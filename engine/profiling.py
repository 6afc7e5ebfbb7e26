"""Training profiler: throughput of model, loader and both, and the costliest operations."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from common.cli import add_config, at_least, command_parser, path_type, require_parent
from common.display import Display
from common.errors import UserError, exit_code_of
from common.files import atomic_write
from configs import load_config
from configs.schema import Config
from engine.loaders import open_loader
from engine.model_cost import black_clips
from engine.runs.trained import OtherRuns
from engine.runtime.device import choose_placement
from engine.runtime.session import RunContext, StopSignal
from engine.runtime.world import World
from engine.training.step import StepOutput, TrainStep
from models import build_model
from pipeline.batch import Batch
from pipeline.profile.measure import describe_machine, measure_shown
from pipeline.profile.report import spread_of

TRACED = 3  # steps in the trace
COSTLIEST = 10  # operations of those that are listed

DESCRIPTION = (
    "Measure what training adds to loading: the model alone, the loader alone, and both; list what costs most."
)
EXAMPLES = """\
python -m engine.profiling -c configs/xnorm.yaml
python -m engine.profiling -c configs/xnorm.yaml --trace trace.json --json training.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it went."""
    parser = command_parser("engine.profiling", DESCRIPTION, EXAMPLES)
    add_config(parser)
    parser.add_argument("--split", default="train", help="which packed split")
    parser.add_argument("--rounds", metavar="N", type=at_least(1), default=3, help="interleaved rounds")
    parser.add_argument("--batches", metavar="N", type=at_least(1), default=20, help="batches per candidate and round")
    parser.add_argument(
        "--trace", type=path_type, metavar="FILE", help="write a torch.profiler trace (default: none written)"
    )
    parser.add_argument("--json", type=path_type, metavar="FILE", help="write all figures (default: none written)")
    return exit_code_of(partial(_run, parser.parse_intermixed_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    for path in (arguments.json, arguments.trace):
        require_parent(path)
    config = load_config(arguments.config, arguments.overrides)
    with Display(arguments.quiet) as display:
        report = profile_training(config, arguments, display)
        show_training(report, display)
    if arguments.json:
        with atomic_write(arguments.json, "w") as file:
            json.dump({"machine": describe_machine(), **report}, file, indent=2)
    return 0


@dataclass
class Training:
    """A model with its optimizer, and the three ways of keeping it busy or not; each yields the clips of a batch."""

    config: Config
    split: str
    session: RunContext

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        options = self.config.model.model_dump() | {"pretrained": None}  # any weights take the same time
        self.model = self.session.placement.move(build_model(**options))
        self.model.start(OtherRuns(self.session, self.model.targets, {}))
        placement, world, settings = self.session.placement, self.session.world, self.config.train
        self.stepper = TrainStep(self.model, self.model.losses, settings, self.config.seed, placement, world)
        self.seconds = self.waited = 0.0

    def compute(self) -> Iterator[int]:
        """Train on one random batch that lies on the device, over and over."""
        batch = self._random_batch()
        self.stepper.train_mode()
        for number in count():
            self._finish(self.stepper.step(batch, number))
            yield len(batch.labels)

    def load(self) -> Iterator[int]:
        """Load and put onto the device."""
        for batch in self._batches():
            batch.labels.cpu()  # they come over last: waits for all of it
            yield len(batch.labels)

    def train(self) -> Iterator[int]:
        """Train on what is loaded, and note the time and how much of it was spent waiting for clips."""
        batches = self._batches()
        self.stepper.train_mode()
        for number in count():
            asked = time.perf_counter()
            batch = next(batches)
            loaded = time.perf_counter()
            self._finish(self.stepper.step(batch, number))
            self.waited += loaded - asked
            self.seconds += time.perf_counter() - asked
            yield len(batch.labels)

    def _batches(self) -> Iterator[Batch]:
        device = self.session.placement.device
        with open_loader(self.config, self.split, self.model, self.session, train=True) as loader:
            while True:
                yield from (batch.to(device) for batch in loader)

    def _random_batch(self) -> Batch:
        size, device = self.config.loader.batch_size, self.session.placement.device
        rgb, flow = (
            None if clips is None else clips.random_(256)
            for clips in black_clips(self.model, self.config.clip, size, device)
        )
        targets = self.model.targets
        random = {
            str(name): torch.randint(classes, (size,), device=device) for name, classes in targets.classes.items()
        }
        labels, clips = next(iter(random.values())), torch.arange(size, device=device)
        return Batch(rgb, flow, labels, clips, torch.zeros_like(clips), (), random)

    def _finish(self, measured: StepOutput) -> None:
        """Wait for the device: a step's time ends here."""
        measured.grad_norm.item()


def profile_training(config: Config, arguments: argparse.Namespace, display: Display) -> dict[str, Any]:
    """Measure compute, loader and both on the train.device of `config`, and list the costliest operations of a step.

    Raises:
        ConfigError: the device or the precision cannot be had.
        UserError: the split is missing or damaged, or the loss is not finite.
    """
    placement = choose_placement(config.train.device, config.train.precision)
    with StopSignal() as stop:
        training = Training(config, arguments.split, RunContext(placement, World(), display, stop))
        both = training.train()
        subjects = {"compute": training.compute(), "loader": training.load(), "end to end": both}
        rounds = measure_shown(subjects, arguments.rounds, arguments.batches, display)
        waited = training.waited / training.seconds
        operations = trace_steps(both, placement.device, arguments.trace)
    figures = {name: result.summary() for name, result in rounds.items()}
    speeds = {name: figure["clips_per_s"] for name, figure in figures.items()}
    return {
        "device": str(placement.device),
        "precision": placement.precision,
        "threads": torch.get_num_threads(),
        "candidates": figures,
        "data_wait": waited,
        "limit": min(("compute", "loader"), key=lambda name: speeds[name]),
        "operations": operations,
    }


def show_training(report: dict[str, Any], display: Display) -> None:
    """Show the speed of the model, of the loader and of both, who waits for whom, and the costliest operations."""
    table = Table(title=f"training on {report['device']}, {report['precision']}, medians of the rounds (range)")
    for column in ("", "clips/s", "CPU ms per clip"):
        table.add_column(column, justify="left" if not column else "right")
    for name, figure in report["candidates"].items():
        table.add_row(name, spread_of(figure, "clips_per_s", ".1f"), spread_of(figure, "cpu_ms_per_clip", ".1f"))
    display.table(table)
    speeds = {name: figure["clips_per_s"] for name, figure in report["candidates"].items()}
    limit = {"compute": "the model", "loader": "the loader"}[report["limit"]]
    display.print(
        f"compute {speeds['compute']:.1f} clips/s, loader {speeds['loader']:.1f} clips/s, end to end "
        f"{speeds['end to end']:.1f} clips/s: the model waits for clips {report['data_wait']:.1%} of the time; "
        f"{limit} is the limit"
    )
    table = Table(title="the costliest operations of a step, by their own time")
    for column in ("operation", "calls", "ms", "share"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for row in report["operations"]:
        table.add_row(row["name"], f"{row['calls_per_step']:.0f}", f"{row['ms_per_step']:.1f}", f"{row['share']:.1%}")
    display.table(table)


def trace_steps(training: Iterator[int], device: torch.device, path: Path | None) -> list[dict[str, Any]]:
    """Take some steps under torch.profiler, write the trace, and return the costliest operations by their own time.

    Raises:
        UserError: the trace cannot be written.
    """
    on_gpu = device.type == "cuda"
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it says on stderr that there is no GPU
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        for _ in range(TRACED):
            next(training)
    if path is not None:
        _export(profiler, path)
    events = [event for event in profiler.key_averages() if not event.key.startswith("ProfilerStep")]
    times = {event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events}
    whole = max(1e-9, sum(times.values()))
    costliest = sorted(events, key=lambda event: -times[event.key])[:COSTLIEST]
    return [
        {
            "name": event.key,
            "calls_per_step": event.count / TRACED,
            "ms_per_step": times[event.key] / 1e3 / TRACED,
            "share": times[event.key] / whole,
        }
        for event in costliest
    ]


def _export(profiler: profile, path: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            scratch = Path(folder) / path.name
            profiler.export_chrome_trace(str(scratch))
            with scratch.open("rb") as source, atomic_write(path) as file:
                shutil.copyfileobj(source, file)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
