"""Gradient-Blending (Wang, Tran and Feiszli, 2020): heads weighted by how they generalise and overfit."""

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from configs.methods import GBlendOptions
from configs.options import Pretrained
from models.fusion import Fit, FitResult, FusionModel
from models.methods.early import EarlyFusion, ThreeHeads
from models.methods.unimodal import FlowOnly, RgbOnly

# A head with its encoders is a method of its own, with the same names.
HEADS: dict[str, type[FusionModel]] = {"rgb": RgbOnly, "flow": FlowOnly, "joint": EarlyFusion}
MIN_GENERALISATION = 0.01  # nats per clip
MIN_OVERFITTING = 0.05  # nats per clip
MIN_WEIGHT = 0.01
NEVER = -1


class GradientBlending(ThreeHeads):
    """Early fusion with a head of its own for each stream, trained on a weighted sum of three losses (CVPR 2020).

    The weight of head k is proportional to dG_k / dO_k^2 (the paper's section 3, algorithms 1 and 2). The head is
    trained by itself for a few epochs, from the weights as they are; dG is how much its loss on held-out clips fell, dO
    how much the gap between held-out and training loss grew. Offline, as by default, that is done once, before the
    first epoch; with `online: n`, anew every n epochs. The joint head predicts.

    Where this is not the published code's:

    - Its weights are the held-out loss over the squared gap, both after training alone, and hard-coded for two seeds;
      these are the paper's, from the losses before and after.
    - It holds out the first 10 % of the rows, which is one kitchen, and drops the last batch. Here it is a fifth of the
      clips, as whole videos of all labels, every clip once: a tenth is too few videos for that.
    - Small and negative values, which the paper leaves open, follow `blend_weights`.

    Until the first estimate each head weighs 1.
    """

    options: GBlendOptions
    unpublished = frozenset({"head_weights", "estimated_before"})
    head_weights: Tensor
    estimated_before: Tensor

    def __init__(self, options: GBlendOptions) -> None:
        super().__init__(options)
        self.register_buffer("head_weights", torch.ones(len(HEADS)))  # in the order of HEADS
        self.register_buffer("estimated_before", torch.tensor(NEVER))  # the epoch

    def weigh(self, head: str) -> Tensor:
        """Return the weight that a head was found to deserve."""
        return self.head_weights[list(HEADS).index("joint" if head == "cls" else head)]

    def prepare(self, fit: Fit) -> dict[str, float]:
        """Estimate the heads' weights where it is time to; return each head's dG, dO and weight."""
        if not self._is_due(fit.epoch):
            return {}
        options = self.options
        results = {
            head: fit(
                self.alone(head),
                lambda output, labels: self.targets.loss(output.logits, labels),
                epochs=options.estimation_epochs,
                subset=options.estimation_subset,
                holdout=options.estimation_holdout,
            )
            for head in HEADS
        }
        weights = blend_weights(results)
        self.head_weights.copy_(torch.tensor([weights[head] for head in HEADS]))
        self.estimated_before.fill_(fit.epoch)
        numbers: dict[str, float] = {}
        for head, result in results.items():
            numbers |= {f"{head}_dG": generalisation(result), f"{head}_dO": overfitting(result)}
            numbers[f"{head}_w"] = weights[head]
        return numbers

    def alone(self, head: str) -> FusionModel:
        """Copy a head with its encoders, as the method that it is: rgb, flow or early."""
        options = self.options.model_copy(update={"pretrained": Pretrained(rgb=None, flow=None)})
        with torch.device("meta"):  # its weights are replaced: no initialisation, and no random numbers used up
            method = HEADS[head](options)
        own = self.state_dict()
        method.targets = self.targets
        method.load_state_dict({name: own[name].clone() for name in method.state_dict()}, assign=True)
        return method

    def _is_due(self, epoch: int) -> bool:
        last, online = int(self.estimated_before), self.options.online
        return last == NEVER or (online is not None and epoch - last >= online)


def generalisation(result: FitResult) -> float:
    """Return dG, how much the loss on held-out clips fell, in nats per clip."""
    return result.holdout_before - result.holdout_after


def overfitting(result: FitResult) -> float:
    """Return dO, how much the gap between the loss on held-out and on training clips grew, in nats per clip."""
    return (result.holdout_after - result.train_after) - (result.holdout_before - result.train_before)


def blend_weights(results: Mapping[str, FitResult]) -> dict[str, float]:
    """Turn short trainings into weights that are proportional to dG / dO^2 and sum to 1.

    What the formula cannot use is replaced, with a warning: a dO below 0.05, or negative, counts as 0.05, for it is
    within what chance does and its square would give that head all the weight; a dG below 0.01 counts as 0, for a loss
    that hardly fell says nothing of how that head generalises beside the others.
    No weight falls below 0.01 of the sum, for a head without weight does not learn, and one of them predicts. Where no
    head generalises, they weigh alike.
    """
    gains = {head: _gain(head, generalisation(result)) for head, result in results.items()}
    gaps = {head: _gap(head, overfitting(result)) for head, result in results.items()}
    raw = {head: gains[head] / gaps[head] ** 2 for head in results}
    total = sum(raw.values())
    if total == 0:
        warnings.warn("Gradient-Blending: no head's held-out loss fell enough; all get the same weight", stacklevel=2)
        return {head: 1 / len(raw) for head in raw}
    shares = {head: _share(head, value / total, gains[head]) for head, value in raw.items()}
    total = sum(shares.values())
    return {head: share / total for head, share in shares.items()}


def _gain(head: str, gain: float) -> float:
    if gain >= MIN_GENERALISATION and math.isfinite(gain):
        return gain
    _warn(head, f"the held-out loss hardly fell, or rose (dG = {gain:.3g}), it gets the least weight")
    return 0.0


def _gap(head: str, gap: float) -> float:
    if gap >= MIN_OVERFITTING:
        return gap
    _warn(head, f"it hardly overfits (dO = {gap:.3g}), taken as {MIN_OVERFITTING}")
    return MIN_OVERFITTING


def _share(head: str, share: float, gain: float) -> float:
    if share >= MIN_WEIGHT:
        return share
    if gain > 0:  # else its gain has been warned of
        _warn(head, f"its share of the weights is small ({share:.3g}), taken as {MIN_WEIGHT}")
    return MIN_WEIGHT


def _warn(head: str, what: str) -> None:
    warnings.warn(f"Gradient-Blending: head {head}: {what}; longer or larger estimation may help", stacklevel=4)
