"""What training adds to loading: the model alone, the loader alone, and both, and the operations that cost the most."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from configs.display import Display
from configs.errors import UserError
from configs.files import atomic_write
from configs.schema import Config
from engine.device import choose_placement
from engine.distributed import World
from engine.flops import CHANNELS
from engine.interrupt import StopRequest
from engine.loaders import open_loader
from engine.session import Session
from engine.step import Measured, Stepper
from models import build_model
from pipeline.batch import Batch
from pipeline.measure import Measure

TRACED = 3  # steps in the trace
COSTLIEST = 10  # operations of those that are listed


@dataclass
class Training:
    """A model with its optimizer, and the three ways of keeping it busy or not; each yields the clips of a batch."""

    config: Config
    split: str
    session: Session

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        options = self.config.model.model_dump() | {"pretrained": None}  # any weights take the same time
        self.model = self.session.placement.place(build_model(**options))
        placement, world, settings = self.session.placement, self.session.world, self.config.train
        self.stepper = Stepper(self.model, self.model.losses, settings, self.config.seed, placement, world)
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
        clip, size = self.config.clip, self.config.loader.batch_size
        device, shape = self.session.placement.device, (clip.num_frames, clip.crop_size, clip.crop_size)
        rgb, flow = (
            torch.randint(256, (size, CHANNELS[stream], *shape), dtype=torch.uint8, device=device)
            if stream in self.model.streams
            else None
            for stream in ("rgb", "flow")
        )
        labels = torch.randint(self.config.model.num_classes, (size,), device=device)
        return Batch(rgb, flow, labels, torch.arange(size, device=device), torch.zeros_like(labels), ())

    def _finish(self, measured: Measured) -> None:
        """Wait for the device: a step's time ends here."""
        measured.grad_norm.item()


def profile_training(
    config: Config, split: str, display: Display, measure: Measure, trace: Path | None = None
) -> dict[str, Any]:
    """Measure compute, loader and both on the train.device of `config`, and list the costliest operations of a step.

    `measure` takes subjects to their rounds, interleaved. `trace` is where a trace of some steps is written, for
    chrome://tracing or https://ui.perfetto.dev.

    Raises:
        ConfigError: the device or the precision cannot be had.
        UserError: the split is missing or damaged, or the loss is not finite.
    """
    placement = choose_placement(config.train.device, config.train.precision)
    with StopRequest() as stop:
        training = Training(config, split, Session(placement, World(), display, stop))
        both = training.train()
        rounds = measure({"compute": training.compute(), "loader": training.load(), "end to end": both})
        waited = training.waited / training.seconds
        operations = trace_steps(both, placement.device, trace)
    figures = {name: result.summary() for name, result in rounds.items()}
    speeds = {name: figure["clips_per_s"] for name, figure in figures.items()}
    return {
        "device": str(placement.device),
        "precision": placement.precision,
        "threads": torch.get_num_threads(),
        "subjects": figures,
        "data_wait": waited,
        "limit": min(("compute", "loader"), key=lambda name: speeds[name]),
        "operations": operations,
    }


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
