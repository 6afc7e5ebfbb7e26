"""One optimisation step: forward under autocast, the gradients of the loss terms, clipping, update."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from configs.schema import TrainSection
from engine.runs.checkpoint import State
from engine.runtime.device import Placement
from engine.runtime.world import World, unsynchronized
from engine.training.gradients import SummedGradients, gradients_of
from engine.training.optimisation import make_optimizer
from models.fusion import FusionModel, FusionOutput
from pipeline.batch import Batch

Losses = Callable[[FusionOutput, Tensor], dict[str, Tensor]]
_FOR_GRADIENTS = 2  # what a random stream is for, beside dropout and the trainer's


class StepOutput(NamedTuple):
    """Losses, correct clips and gradient norm of a step, still on the device."""

    losses: dict[str, Tensor]  # scalars
    correct: Tensor  # scalar: the clips of which all targets were right
    grad_norm: Tensor  # scalar, before clipping; where it is not finite, the step was not taken


class ForwardOutput(NamedTuple):
    """What a forward pass gives to the rest of a step."""

    losses: dict[str, Tensor]  # scalars
    logits: Tensor  # [B, C]
    measures: dict[str, Tensor]  # scalars, what the method measures


class ForwardPass(nn.Module):
    """A model and its losses as one module, so that DDP and compile see all of it."""

    def __init__(self, model: FusionModel, losses: Losses) -> None:
        super().__init__()
        self.model = model
        self.losses = losses

    def forward(self, rgb: Tensor | None, flow: Tensor | None, labels: Tensor) -> ForwardOutput:
        """Train on rgb [B, 3, T, H, W], flow [B, 2, T, H, W] and labels, as `losses` take them."""
        output = self.model(rgb, flow)
        losses = self.losses(output, labels)
        with torch.no_grad():
            return ForwardOutput(losses, output.logits.detach(), self.model.measure(output, labels))


class TrainStep:
    """Takes steps on a model that is on its device already.

    `all_used`: every parameter gets a gradient in each, and the method may change it; else `losses` are not those of
    the method, and the gradients are taken as they are.
    """

    def __init__(
        self,
        model: FusionModel,
        losses: Losses,
        settings: TrainSection,
        seed: int,
        placement: Placement,
        world: World,
        all_used: bool = True,
    ) -> None:
        forward: nn.Module = ForwardPass(model, losses)
        if settings.compile:
            forward.compile()
        self.module = world.wrap(forward, all_used, settings.sync_batchnorm)
        self.optimizer = make_optimizer(model, settings)
        self.scaler = placement.scaler()
        self._targets = model.targets
        self._buffers = list(model.buffers())
        self._seed, self._placement, self._world = seed, placement, world
        self._accumulate = settings.accumulate
        kind = gradients_of(model) if all_used else SummedGradients
        self._gradients = kind(
            model, self.module, self.optimizer, self.scaler, settings.clip_norm, world, self._generator
        )

    def train_mode(self) -> None:
        """Leave eval mode."""
        self.module.train()

    def step(self, batch: Batch, number: int) -> StepOutput:
        """Take step `number` of the run on a batch that is on the device, without waiting for it.

        The batch goes through the model in `accumulate` parts, one after the other; losses are means over them.
        Where the gradient is not finite, weights, optimizer and statistics stay as they were; the device decides that.
        """
        # What is random in a step (dropout) follows from its number, so a resumed run needs no generator's state.
        torch.manual_seed(derive_seed(self._seed, number, self._world.rank))
        before = [buffer.clone() for buffer in self._buffers]
        labels = self._targets.labels(batch.labels, batch.targets)
        self._gradients.clear()
        found = [self._add_part(*part) for part in self._parts(batch.rgb, batch.flow, labels)]
        grad_norm = self._gradients.finish(number)
        self._update(grad_norm.isfinite(), before)
        losses = {name: torch.stack([part[name] for part, _ in found]).sum() for name in found[0][0]}
        return StepOutput(losses, torch.stack([correct for _, correct in found]).sum(), grad_norm)

    def _parts(self, rgb: Tensor | None, flow: Tensor | None, labels: Tensor) -> Iterator[tuple[Any, ...]]:
        """Yield (is_last, rgb, flow, labels) of as many equal parts of a batch as are accumulated."""
        chunks = ([None] * self._accumulate if x is None else x.chunk(self._accumulate) for x in (rgb, flow, labels))
        for number, part in enumerate(zip(*chunks, strict=True), start=1):
            yield number == self._accumulate, *part

    def _add_part(
        self, is_last: bool, rgb: Tensor | None, flow: Tensor | None, labels: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Add the gradients of a part of a batch; return its share of the losses, and how many clips were right."""
        with self._gradients.context() if is_last else unsynchronized(self.module):
            with self._placement.autocast():
                losses, logits, measures = self.module(rgb, flow, labels)
            losses = {name: loss / self._accumulate for name, loss in losses.items()}
            self._gradients.add(losses, measures)
        return {name: loss.detach() for name, loss in losses.items()}, self._targets.num_correct(logits, labels)

    def _generator(self, number: int) -> torch.Generator:
        """What a method's changes of the gradients of step `number` are drawn from, on all ranks the same."""
        seed = derive_seed(self._seed, number, 0, _FOR_GRADIENTS)
        return torch.Generator(self._placement.device).manual_seed(seed)

    def _update(self, taken: Tensor, buffers_before: Sequence[Tensor]) -> None:
        """Let the optimizer learn from the gradients if `taken` (a boolean on the device); else undo the forward."""
        # What a GradScaler tells a fused optimizer, which reads it on the device: 1 leaves weights and moments alone.
        self.optimizer.found_inf = (~taken).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.scaler.update()
        for buffer, before in zip(self._buffers, buffers_before, strict=True):
            torch.where(taken, buffer, before, out=buffer)

    def state_dict(self) -> State:
        """Return the optimizer's and the scaler's state."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def derive_seed(*numbers: int) -> int:
    """Make one seed out of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
