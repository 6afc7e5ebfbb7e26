"""The interface of checks: what each is given, and what it finds."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from configs import load_config
from configs.schema import Config
from engine.model_cost import black_clips
from engine.runtime.device import Placement
from engine.runtime.world import World
from engine.training.step import TrainStep
from models import build_model
from models.fusion import FusionModel
from pipeline.batch import Batch

Row: TypeAlias = "dict[str, Any]"  # column by column; "ok": whether it is as it has to be, where that can be said
ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
WARMUP = 3  # steps that are not timed: libraries choose their algorithms


@dataclass(frozen=True)
class Setup:
    """What all checks work with.

    Attributes:
        config: model, clips and batches; its data is packed.
        overrides: what makes configs/xnorm.yaml this config, for other processes.
        device: a GPU, or in a dry run the CPU.
        folder: for what a check writes.
        restarts: the same clips, packed with restart markers (a data.shards).
        is_dry: nothing is judged.
        steps: that are timed.
        learning_steps: of the trainings whose losses are compared.
        loaded: batches through a loader whose memory is watched.
    """

    config: Config
    overrides: tuple[str, ...]
    device: torch.device
    folder: Path
    restarts: Path
    is_dry: bool
    steps: int
    learning_steps: int
    loaded: int

    @property
    def half(self) -> str:
        """The precision that training takes here where it may choose."""
        if self.device.type == "cpu":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"

    def model(self, method: str | None = None) -> FusionModel:
        """A model of the config, or another method's of that size, from the config's seed."""
        config = load_config(CONFIGS / f"{method}.yaml", self.overrides) if method else self.config
        torch.manual_seed(config.seed)
        return Placement(self.device).move(build_model(**config.model.model_dump() | {"pretrained": None}))

    def stepper(self, model: FusionModel, precision: str) -> TrainStep:
        """Training steps on a model."""
        placement = Placement(self.device, precision)
        return TrainStep(model, model.losses, self.config.train, self.config.seed, placement, World())

    def batch(self, model: FusionModel, number: int = 0) -> Batch:
        """Random clips with random labels, on the device; the same each time for a `number`."""
        generator = torch.Generator().manual_seed(number)
        size = self.config.loader.batch_size
        rgb, flow = (self._random(clips, generator) for clips in black_clips(model, self.config.clip, size, CPU))
        targets = {
            str(name): torch.randint(classes, (size,), generator=generator).to(self.device)
            for name, classes in model.targets.classes.items()
        }
        labels = next(iter(targets.values()))
        return Batch(rgb, flow, labels, torch.arange(size), torch.zeros(size, dtype=torch.int64), (), targets)

    def _random(self, clips: Tensor | None, generator: torch.Generator) -> Tensor | None:
        if clips is None:
            return None
        return clips.random_(256, generator=generator).to(self.device).to(memory_format=torch.channels_last_3d)

    def finish(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[int], object]) -> float:
        """Seconds per call of `work`, which is given a number, after calls that are not counted."""
        for number in range(min(WARMUP, self.steps)):
            work(number)
        self.finish()
        begin = time.perf_counter()
        for number in range(self.steps):
            work(number)
        self.finish()
        return (time.perf_counter() - begin) / self.steps


CPU = torch.device("cpu")


@dataclass(frozen=True)
class Check:
    """A check: rows, each as soon as it is found.

    Attributes:
        about: what its table shows.
        gpus: as many it needs, or it is skipped with a word.
    """

    name: str
    about: str
    run: Callable[[Setup], Iterator[Row]]
    gpus: int = 0
