"""The optimizer with its groups of parameters, and the learning rate of each step."""

import math
from typing import Any

import torch
from torch import nn

from common.errors import ConfigError
from configs.schema import TrainSection
from models.trunks.trunk import Trunk

MOMENTUM = 0.9  # of SGD, Nesterov's


def make_optimizer(model: nn.Module, settings: TrainSection) -> torch.optim.Optimizer:
    """Make the optimizer of what `model` trains; it takes `found_inf` as a GradScaler would set it, see TrainStep.

    Fused: one pass over all weights, and no wait for the device to learn whether a step is to be skipped.

    Raises:
        ConfigError: `head_lr_factor` is set, and no parameter is of a trunk.
    """
    groups = parameter_groups(model, settings)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True, fused=True)
    for group in groups:  # zeros and the first gradient make the same; torch's own would stay unset by a skipped step
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def parameter_groups(model: nn.Module, settings: TrainSection) -> list[dict[str, Any]]:
    """Group what `model` trains by learning rate and weight decay, for an optimizer.

    A parameter belongs to the heads (`head_lr_factor`) unless it is of a stage of a trunk: so do maps to the embedding
    and all that fuses. Vectors, which are the weights of norms and all biases, decay as `decay_vectors` says.

    Raises:
        ConfigError: `head_lr_factor` is set, and no parameter is of a trunk.
    """
    trunks = [module for module in model.modules() if isinstance(module, Trunk)]
    of_trunks = {id(parameter) for trunk in trunks for parameter in trunk.stage_parameters()}
    if settings.head_lr_factor != 1 and not of_trunks:
        raise ConfigError(
            f"train.head_lr_factor: found {settings.head_lr_factor:g}, but this method has no trunk of models.trunks, "
            "so that all of it would be head; set train.lr alone"
        )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate = settings.lr * (1.0 if id(parameter) in of_trunks else settings.head_lr_factor)
            decay = settings.weight_decay if parameter.ndim > 1 or settings.decay_vectors else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]


class LearningRate:
    """Sets the rate of each step: a pure function of its number, and for `plateau` of how often it has dropped.

    Linear warm-up over the first `warmup_steps` steps, times

    - plateau: `lr_factor` for each time that more than `lr_patience` epochs in a row were no better than the best;
    - cosine: (1 + cos(pi x)) / 2, with x from 0, after the warm-up, to 1, after the last step (Loshchilov and Hutter,
      ICLR 2017, equation 5, without restarts);
    - step: `lr_factor` for each of `lr_steps` epochs that are over.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: TrainSection, steps_per_epoch: int) -> None:
        self._optimizer, self._settings, self._steps_per_epoch = optimizer, settings, steps_per_epoch
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._num_steps = settings.epochs * steps_per_epoch
        self.best, self.bad_epochs, self.num_drops = -math.inf, 0, 0
        if settings.warmup_steps >= self._num_steps:
            raise ConfigError(
                f"train.warmup_steps: found {settings.warmup_steps}; allowed: less than the {self._num_steps} steps of "
                f"all {settings.epochs} epochs"
            )

    def rate(self, step: int) -> float:
        """Return the rate of the trunks in `step` of the run, from 0; that of the heads is a fixed multiple of it."""
        return self._settings.lr * self._factor(step)

    def set(self, step: int) -> None:
        """Give the optimizer the rates of `step`."""
        factor = self._factor(step)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def end_epoch(self, score: float) -> None:
        """Take note of an epoch's validation; the higher its score, the better."""
        if score > self.best:
            self.best, self.bad_epochs = score, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self._settings.lr_patience:
            self.bad_epochs = 0
            self.num_drops += 1

    def _factor(self, step: int) -> float:
        settings, warmup = self._settings, self._settings.warmup_steps
        warmed = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if settings.schedule == "cosine":
            progress = max(0, step - warmup) / (self._num_steps - warmup)
            return warmed * (1 + math.cos(math.pi * progress)) / 2
        over = [epoch for epoch in settings.lr_steps or () if step >= epoch * self._steps_per_epoch]
        num_drops = len(over) if settings.schedule == "step" else self.num_drops
        return float(warmed * settings.lr_factor**num_drops)

    def state_dict(self) -> dict[str, Any]:
        """Return what the rates to come depend on beside their steps."""
        return {"best": self.best, "bad_epochs": self.bad_epochs, "num_drops": self.num_drops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.best, self.bad_epochs, self.num_drops = state["best"], state["bad_epochs"], state["num_drops"]
