"""Tiny methods that use both hooks, and two ranks that train them: `python -m tests.engine.training.adjusting OUT`."""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs import load_config
from configs.options import CommonOptions
from engine.runtime.device import Placement
from engine.runtime.world import World, joined_world
from engine.training.step import StepOutput, TrainStep
from models.fusion import FusionModel, FusionOutput, GradientStep
from pipeline.batch import Batch
from tests.runs import CONFIG

CLIPS, CLASSES = 8, 6
ALONE = World()


class Tiny(FusionModel):
    """A linear map of each stream's mean colour; three losses, of which the last is of a parameter of its own."""

    def __init__(self) -> None:
        super().__init__(CommonOptions(fusion="tiny", num_classes=CLASSES))
        self.rgb_enc, self.flow_enc = nn.Linear(3, CLASSES), nn.Linear(2, CLASSES)
        self.scale = nn.Parameter(torch.ones(CLASSES))

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        dtype = self.scale.dtype
        rgb, flow = self.rgb_enc(rgb.mean((2, 3, 4)).to(dtype)), self.flow_enc(flow.mean((2, 3, 4)).to(dtype))
        return FusionOutput(self.scale * (rgb + flow), {"rgb": rgb})

    def losses(self, output: FusionOutput, labels: Tensor) -> dict[str, Tensor]:
        apart = F.cross_entropy(output.extra["rgb"], labels)
        return {"cls": F.cross_entropy(output.logits, labels), "rgb": apart, "size": self.scale.square().sum()}


class Adjusted(Tiny):
    """Scales by what it measures, adds noise, and counts in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.steps: list[GradientStep] = []
        self.noise: list[Tensor] = []

    def measure(self, output: FusionOutput, labels: Tensor) -> dict[str, Tensor]:
        return {"clips": torch.ones_like(labels).sum(), "score": output.logits.softmax(dim=1).amax(dim=1).sum()}

    def adjust_gradients(self, step: GradientStep) -> None:
        self.steps.append(step)
        self.seen += step.sums["clips"]
        gradient = self.rgb_enc.weight.grad
        assert gradient is not None
        self.noise.append(torch.empty_like(gradient).normal_(generator=step.generator))
        gradient.mul_(step.sums["score"] / step.sums["clips"]).add_(self.noise[-1], alpha=0.01)


class ByTerm(Adjusted):
    """Takes the smaller of two terms' gradients, element by element, in one of its encoders."""

    gradients_by_term: ClassVar = {"rgb_enc": ("cls", "rgb"), "flow_enc": ("rgb",)}

    def adjust_gradients(self, step: GradientStep) -> None:
        super().adjust_gradients(step)
        both = zip(step.terms["rgb_enc"]["cls"], step.terms["rgb_enc"]["rgb"], strict=True)
        for parameter, (one, other) in zip(self.rgb_enc.parameters(), both, strict=True):
            parameter.grad = torch.where(one.abs() < other.abs(), one, other)


METHODS: dict[str, Callable[[], Tiny]] = {"plain": Tiny, "adjusted": Adjusted, "by term": ByTerm}


def stepper_of(
    model: FusionModel,
    precision: str = "fp32",
    world: World = ALONE,
    seed: int = 0,
    clip_norm: float = 1.0,
    accumulate: int = 1,
) -> TrainStep:
    """A stepper; in fp16 with a scale that these few values bear."""
    changes = f"train.clip_norm={clip_norm}", f"train.accumulate={accumulate}"
    settings = load_config(CONFIG, [*changes, "train.lr=0.1"]).train
    stepper = TrainStep(model, model.losses, settings, seed, Placement(torch.device("cpu"), precision), world)
    if precision == "fp16":
        stepper.scaler.load_state_dict(stepper.scaler.state_dict() | {"scale": 8.0})
    stepper.train_mode()
    return stepper


def batch(seed: int = 0, rank: int = 0, size: int = 1) -> Batch:
    """The share of a rank in a batch."""
    generator = torch.Generator().manual_seed(seed)
    rgb, flow = (torch.randint(256, (CLIPS, c, 8, 4, 4), dtype=torch.uint8, generator=generator) for c in (3, 2))
    clips = torch.arange(CLIPS).chunk(size)[rank]
    return Batch(rgb[clips], flow[clips], clips % CLASSES, clips, torch.zeros_like(clips), ())


def train(make: Callable[[], Tiny], world: World = ALONE, accumulate: int = 1) -> tuple[Tiny, list[StepOutput]]:
    """Three steps, in fp64 so that the order of sums shows in no digit that is compared."""
    torch.manual_seed(0)
    model = make().double()
    stepper = stepper_of(model, world=world, accumulate=accumulate)
    return model, [stepper.step(batch(number, world.rank, world.size), number) for number in range(3)]


def collect(world: World) -> dict[str, object]:
    """What the weights of each rank are in the end, by method, and what the losses were; of one shape everywhere.

    With several ranks, also where each of them accumulates two parts of its share.
    """
    found: dict[str, object] = {}
    for accumulate in (1, 2) if world.size > 1 else (1,):
        for name, make in METHODS.items():
            model, steps = train(make, world, accumulate)
            state = torch.cat([value.flatten() for value in model.state_dict().values()])
            norms = torch.stack([step.grad_norm for step in steps])
            found[f"{name} {accumulate}"] = {"state": world.gather(state).view(world.size, -1), "norms": norms}
    return found


if __name__ == "__main__":
    with joined_world(torch.device("cpu"), timedelta(seconds=60)) as world:
        found = collect(world)
        if world.is_main:
            torch.save(found, sys.argv[1])
