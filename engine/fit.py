"""The loop as it is lent to a method, for the short trainings that it needs before an epoch."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from models.fusion import FitResult, FusionModel, FusionOutput


@dataclass
class ShortTraining:
    """Implements models.fusion.Fit for the epoch about to start, counted from 0."""

    epoch: int

    def __call__(
        self,
        model: FusionModel,
        loss: Callable[[FusionOutput, Tensor], Tensor],
        *,
        epochs: int,
        subset: float,
        holdout: float,
    ) -> FitResult:
        """Train `model` for a while on a part of the clips."""
        raise NotImplementedError("no method of this version trains within prepare()")
