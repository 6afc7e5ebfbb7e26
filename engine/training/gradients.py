"""Gradients of a step: of the sum of the loss terms or of each apart, changed where the method does that, clipped."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from engine.runtime.world import World, unsynchronized
from models.fusion import FusionModel, GradientStep

Scalars = Mapping[str, Tensor]
REST = ""  # the pass of all terms that no module wants apart


@dataclass
class SummedGradients:
    """Gradients of the sum of all terms, by one backward pass, in which DDP averages them over the ranks.

    Attributes:
        model: the method.
        module: what the losses come from, as World.wrap made it.
        optimizer: of the trained parameters.
        scaler: of the losses.
        clip_norm: the largest norm of the whole gradient.
        world: the ranks.
        generator: makes a method's random numbers of a step, from its number.
    """

    model: FusionModel
    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    clip_norm: float
    world: World
    generator: Callable[[int], torch.Generator]

    def __post_init__(self) -> None:
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def clear(self) -> None:
        """Begin a step."""
        self.optimizer.zero_grad(set_to_none=True)

    def context(self) -> AbstractContextManager[None]:
        """Return what a forward pass and its `add` take place in."""
        return nullcontext()

    def add(self, losses: Scalars, sums: Scalars) -> None:
        """Add the gradients of a batch's loss terms; `sums` is what the method has measured of it."""
        self.backward(losses)

    def backward(self, losses: Scalars) -> None:
        """Take the backward pass or passes."""
        self.scaler.scale(total(losses.values())).backward()  # type: ignore[no-untyped-call]

    def finish(self, number: int) -> Tensor:
        """Unscale and clip the gradients of step `number`; return their norm before, not finite where one was not."""
        self.scaler.unscale_(self.optimizer)
        return clip_grad_norm_(self.parameters, self.clip_norm)


@dataclass
class AdjustedGradients(SummedGradients):
    """Gradients that the method changes before they are clipped."""

    sums: dict[str, Tensor] = field(default_factory=dict)

    def clear(self) -> None:
        """Begin a step."""
        super().clear()
        self.sums = {}

    def add(self, losses: Scalars, sums: Scalars) -> None:
        """Add the gradients of a batch's loss terms, and `sums`."""
        super().add(losses, sums)
        self.sums = {name: self.sums.get(name, 0.0) + value.double() for name, value in sums.items()}

    def finish(self, number: int) -> Tensor:
        """Let the method change them in between; one that was not finite cannot be hidden so."""
        self.scaler.unscale_(self.optimizer)
        found = clip_grad_norm_(self.parameters, math.inf)
        if self.sums:
            whole = self.world.sum(torch.stack([*self.sums.values()]))
            self.sums = dict(zip(self.sums, whole, strict=True))
        with torch.no_grad():
            self.model.adjust_gradients(GradientStep(self.sums, self.terms(), self.generator(number)))
            for parameter in self.parameters:
                lie_alike(parameter)
        return torch.where(found.isfinite(), clip_grad_norm_(self.parameters, self.clip_norm), found)

    def terms(self) -> dict[str, dict[str, Sequence[Tensor]]]:
        """Gradients of single terms, by module."""
        return {}


@dataclass
class TermGradients(AdjustedGradients):
    """Gradients of single terms, each by a backward pass of its own, and their sum; averaged once all are there."""

    passes: dict[str, dict[int, Tensor]] = field(default_factory=dict)  # term -> position of a parameter -> gradient

    def clear(self) -> None:
        """Begin a step."""
        super().clear()
        self.passes = {}

    def context(self) -> AbstractContextManager[None]:
        """Return one in which DDP, which allows a single backward pass, leaves the gradients to `finish`."""
        return unsynchronized(self.module)

    def backward(self, losses: Scalars) -> None:
        """Take a backward pass for each term that is wanted apart, and one for all others."""
        parts = self.split(losses)
        for left, (name, loss) in zip(reversed(range(len(parts))), parts.items(), strict=True):
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward(retain_graph=left > 0)  # type: ignore[no-untyped-call]
            before = self.passes.setdefault(name, {})
            for position, parameter in enumerate(self.parameters):
                if parameter.grad is not None:
                    before[position] = before[position] + parameter.grad if position in before else parameter.grad

    def split(self, losses: Scalars) -> dict[str, Tensor]:
        """Return the loss of each backward pass.

        Raises:
            ValueError: the method wants a term apart that its losses do not have.
        """
        apart = {name: parts_of(name, losses) for name in chain(*self.model.gradients_by_term.values())}
        if unknown := [name for name, parts in apart.items() if not parts]:
            raise ValueError(f"gradients_by_term: found {', '.join(unknown)}; the losses are {', '.join(losses)}")
        passes = {name: [losses[part] for part in parts] for name, parts in apart.items()}
        named = set(chain(*apart.values()))
        rest = [loss for name, loss in losses.items() if name not in named]
        return {name: total(terms) for name, terms in passes.items()} | ({REST: total(rest)} if rest else {})

    def finish(self, number: int) -> Tensor:
        """Average and add up what the passes found, before all that."""
        for gradients in self.passes.values():
            self.world.average([*gradients.values()])
        for position, parameter in enumerate(self.parameters):
            found = [gradients[position] for gradients in self.passes.values() if position in gradients]
            parameter.grad = sum(found[1:], start=found[0].clone()) if found else None
        return super().finish(number)

    def terms(self) -> dict[str, dict[str, Sequence[Tensor]]]:
        """Gradients of single terms, by module, unscaled."""
        scale = self.scaler.scale(torch.ones((), device=self.parameters[0].device))
        for gradients in self.passes.values():
            torch._foreach_div_([*gradients.values()], scale)
        positions = {parameter: position for position, parameter in enumerate(self.parameters)}

        def of(module: str, term: str) -> list[Tensor]:
            found = self.passes[term]
            return [found.get(positions[p], torch.zeros_like(p)) for p in self.model.trained(module)]

        wanted = self.model.gradients_by_term
        return {module: {term: of(module, term) for term in terms} for module, terms in wanted.items()}


def parts_of(term: str, losses: Iterable[str]) -> list[str]:
    """Name the losses that are a term's: its own, or with several targets one of each, as cls_verb and cls_noun."""
    return [name for name in losses if name == term or name.startswith(f"{term}_")]


def total(terms: Iterable[Tensor]) -> Tensor:
    """Add up loss terms, in fp32."""
    return torch.stack([term.float() for term in terms]).sum()


def lie_alike(parameter: nn.Parameter) -> None:
    """Let a gradient lie in memory as its parameter does, which a fused optimizer takes for granted."""
    gradient = parameter.grad
    if gradient is not None and gradient.stride() != parameter.stride():
        parameter.grad = torch.empty_like(parameter).copy_(gradient)


def gradients_of(model: FusionModel) -> type[SummedGradients]:
    """Return what `model` needs."""
    if model.gradients_by_term:
        return TermGradients
    is_adjusted = type(model).adjust_gradients is not FusionModel.adjust_gradients
    return AdjustedGradients if is_adjusted else SummedGradients
