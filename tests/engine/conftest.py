"""A model, clips and a session small enough for the loop's own properties."""

import time
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.display import Display
from configs.options import CommonOptions
from engine.runs.run_folder import RunFolder
from engine.runtime.device import Placement
from engine.runtime.session import RunContext, StopSignal
from engine.runtime.world import World
from engine.training.trainer import Trainer
from models.fusion import Fit, FusionModel, FusionOutput
from pipeline.batch import Batch
from pipeline.loader import ClipLoader
from pipeline.views import SINGLE_VIEW
from tests import runs
from tests.runs import MakeConfig

# Fixtures.
data, arguments, config, one_thread = runs.data, runs.arguments, runs.config, runs.one_thread


class TinyModel(FusionModel):
    """A linear map of the mean colour; counts how often it is prepared."""

    streams = ("rgb",)

    def __init__(self, num_classes: int = 6) -> None:
        super().__init__(CommonOptions(fusion="tiny", num_classes=num_classes))
        self.linear = nn.Linear(3, num_classes)
        self.prepared: list[int] = []

    def predict(self, rgb: Tensor) -> FusionOutput:
        return FusionOutput(self.linear(rgb.mean(dim=(2, 3, 4))))

    def prepare(self, fit: Fit) -> dict[str, float]:
        self.prepared.append(fit.epoch)
        return {"weight": 0.5}


class FakeLoader:
    """Random clips of 8 x 8 x 8 pixels, two a batch, with the interface of a ClipLoader; `delay` seconds a batch."""

    def __init__(self, num_clips: int = 8, delay: float = 0.0, device: str = "cpu") -> None:
        self.clip_ids = [f"clip{n}" for n in range(num_clips)]
        self.labels = np.arange(num_clips) % 6
        self.order = list(range(num_clips))
        self.delay, self.device, self.epoch = delay, device, 0
        self.skipped: list[str] = []
        self.multi_view = SINGLE_VIEW
        self.classes, self.targets, self.source = {"label": None}, {"label": self.labels}, None

    def __len__(self) -> int:
        return len(self.order) // 2

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.epoch)
        for start in range(0, len(self.order), 2):
            time.sleep(self.delay)
            positions = self.order[start : start + 2]
            clips, labels = torch.tensor(positions), torch.tensor(self.labels[positions])
            rgb = torch.randint(0, 256, (len(clips), 3, 8, 8, 8), dtype=torch.uint8, generator=generator)
            yield Batch(rgb, None, labels, clips, torch.zeros_like(clips), ()).to(torch.device(self.device))
        self.epoch += 1

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch = state["epoch"]


MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def session() -> Iterator[RunContext]:
    """One process on a CPU that prints nothing."""
    with StopSignal() as stop, Display(quiet=True) as display:
        yield RunContext(Placement(torch.device("cpu")), World(), display, stop)


@pytest.fixture
def trainer(config: MakeConfig, session: RunContext) -> MakeTrainer:
    """A trainer of a TinyModel on fake clips, its folder opened."""

    def make(*overrides: str, loader: FakeLoader | None = None, session: RunContext = session) -> Trainer:
        settings = config(*overrides)
        torch.manual_seed(0)
        model = session.placement.move(TinyModel())
        log = RunFolder(settings, writes=True)
        log.open(None, {})
        train_loader = cast(ClipLoader, loader or FakeLoader())
        return Trainer(settings, model, train_loader, cast(ClipLoader, FakeLoader()), session, log)

    return make
