"""Contract of all methods: inputs, outputs, losses, and the trainings that the trainer runs for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from configs.options import CommonOptions
from models.targets import Targets

CHANNELS = {"rgb": 3, "flow": 2}  # of each stream's clips; flow has u and v


@dataclass
class FusionOutput:
    """What a model says about a batch: logits [B, num_classes], and by name whatever else its losses need.

    With several targets the logits are those of each, one after the other (`FusionModel.targets`).
    """

    logits: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class FitResult:
    """Mean losses per clip on the clips trained on and on those held out, before and after a short training."""

    train_before: float
    train_after: float
    holdout_before: float
    holdout_after: float


class Fit(Protocol):
    """The trainer's own loop, lent to `FusionModel.prepare` for short trainings on a part of the training clips.

    Held-out clips are whole videos, stratified by label, and never clips of the validation split; losses are measured
    in eval mode on eval transforms, every clip once. On several ranks every rank calls it, and all get one result.
    """

    epoch: int
    """The epoch about to start, from 0."""

    def __call__(
        self,
        model: "FusionModel",
        loss: Callable[[FusionOutput, Tensor], Tensor],
        *,
        epochs: int,
        subset: float,
        holdout: float,
    ) -> FitResult:
        """Train `model` in place on `loss(output, labels)`, with a new optimizer of the run's settings.

        Args:
            model: what is trained; a copy where the caller wants to keep the original.
            loss: a scalar from an output and labels, as `FusionModel.losses` gets them.
            epochs: passes over the clips trained on.
            subset: share of the training clips that is used at all.
            holdout: share of those that is held out.
        """


@dataclass(frozen=True)
class GradientStep:
    """What `FusionModel.adjust_gradients` is told of a step, the same on all ranks."""

    sums: Mapping[str, Tensor]
    """What `measure` returned, summed over all clips of the step; float64 scalars."""
    terms: Mapping[str, Mapping[str, Sequence[Tensor]]]
    """terms[module][term], as `gradients_by_term` asks: gradients of `trained(module)`, zeros where a term has none."""
    generator: torch.Generator
    """Random numbers on the model's device that follow from the run's seed and the step's number alone."""


class Training(Protocol):
    """What `FusionModel.start` may ask of the run that it starts."""

    def load_run(self, path: Path) -> "FusionModel":
        """Load the best weights of another run: on this one's device, in eval mode, without gradients.

        Args:
            path: its folder, or a checkpoint.

        Raises:
            UserError: it cannot be read, or was trained on other classes, by number or by name.
        """


class FusionModel(nn.Module):
    """A method: from a clip pair to logits, with its own losses.

    A subclass names its input streams and implements `predict`; see models/methods/late.py for a short one.
    """

    streams: ClassVar[tuple[str, ...]] = ("rgb", "flow")
    """What must be decoded."""
    training_streams: ClassVar[tuple[str, ...]] = ()
    """What must be decoded in training, in addition."""
    unpublished: ClassVar[frozenset[str]] = frozenset()
    """State-dict entries absent from published checkpoints; `load_published` leaves them as they are."""

    gradients_by_term: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Loss terms whose gradients `adjust_gradients` wants apart, by module; each takes a backward pass of its own."""

    options: CommonOptions
    targets: Targets
    """What the logits say of which target, and each one's cross-entropy."""

    predict: Callable[..., FusionOutput]
    """Predict from the clips of `streams`, in that order, as floats [B, 3 or 2, T, H, W] in [-1, 1]."""

    def __init__(self, options: CommonOptions) -> None:
        super().__init__()
        self.options = options
        self.targets = Targets(options)

    def decoded(self, training: bool) -> tuple[str, ...]:
        """The streams that must be decoded, in training or else."""
        needed = {*self.streams, *(self.training_streams if training else ())}
        return tuple(stream for stream in CHANNELS if stream in needed)

    def forward(self, rgb: Tensor | None, flow: Tensor | None) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W], uint8 or float in [-1, 1].

        A stream that is not one of `streams` is not used and may be None.
        """
        clips = {"rgb": rgb, "flow": flow}
        return self.predict(*(to_unit_range(clips[stream], stream) for stream in self.streams))

    def losses(self, output: FusionOutput, labels: Tensor) -> dict[str, Tensor]:
        """The terms whose sum is trained on, each a scalar, from labels [B]; [B, targets] where there are several.

        What has another head of `num_classes` logits takes its terms from `self.targets.losses`, too.
        """
        return self.targets.losses(output.logits, labels)

    def trained(self, module: str) -> list[nn.Parameter]:
        """The parameters of a module that are trained, in the order of `GradientStep.terms`."""
        return [parameter for parameter in self.get_submodule(module).parameters() if parameter.requires_grad]

    def measure(self, output: FusionOutput, labels: Tensor) -> dict[str, Tensor]:
        """What `adjust_gradients` needs of a batch beside the gradients: sums over its clips, each a scalar."""
        return {}

    def adjust_gradients(self, step: GradientStep) -> None:
        """Change the parameters' `grad`, which is averaged over all ranks and unscaled, before it is clipped.

        The trainer calls this in each step of the run (not in short trainings), on all ranks alike. Where a gradient
        was not finite the step is not taken, whatever is made of it here, and buffers are as they were before. Nothing
        here may wait for the device (`.item()`, `if` on a tensor). State is kept in buffers: checkpoints have those.
        """

    def start(self, training: Training) -> None:
        """Take what training alone needs, before its first step, and anew when a run is resumed."""

    def prepare(self, fit: Fit) -> dict[str, float]:
        """Do what the method needs done before an epoch, and return the numbers of it that belong into the log.

        The trainer calls this at the start of every epoch, but not again when it resumes within one. What is found
        out here is kept in buffers, so that checkpoints have it.
        """
        return {}


def to_unit_range(clip: Tensor | None, stream: str) -> Tensor:
    """Turn pixels 0 to 255 into [-1, 1]; 127.5, zero motion, becomes 0. Floats are taken as they are.

    The one pass over the clip also lays its channels last, where convolutions are fast.

    Raises:
        ValueError: there is no clip of `stream`, which the model needs.
    """
    if clip is None:
        raise ValueError(f"this model needs {stream}, and was given None for it")
    if clip.dtype == torch.uint8:
        return clip.to(torch.float32, memory_format=torch.channels_last_3d).div_(127.5).sub_(1.0)
    return clip.to(memory_format=torch.channels_last_3d)
