"""A training step of X-Norm with channels last, and with torch's own layout; eager and compiled."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.gpu_check.base import Check, Row, Setup
from benchmarks.training.published_xnorm import published_xnorm
from models.fusion import FusionModel

FIRST = "Conv3d_1a_7x7"  # of each trunk


def channels_first(setup: Setup) -> FusionModel:
    """X-Norm by torch's own kernels, all maps of which lie plane by plane."""
    model = published_xnorm(pads=False, repeats=False, width=setup.config.model.width).to(setup.device)
    assert isinstance(model, FusionModel)
    for stream in model.streams:
        model.get_submodule(f"{stream}_enc.{FIRST}").register_forward_pre_hook(_plane_by_plane)
    return model


def _plane_by_plane(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in inputs)


def run(setup: Setup) -> Iterator[Row]:
    """A row per layout and form: milliseconds and clips per second."""
    for layout in ("channels last", "channels first"):
        for form in ("eager",) if setup.is_dry and layout == "channels first" else ("eager", "compiled"):
            yield {"layout": layout, "form": form, "precision": setup.half, **measure(setup, layout, form)}
            torch.compiler.reset()


def measure(setup: Setup, layout: str, form: str) -> Row:
    """What training steps take."""
    model = setup.model("xnorm") if layout == "channels last" else channels_first(setup)
    stepper, batch = setup.stepper(model, setup.half), setup.batch(model)
    if form == "compiled" and setup.is_dry:  # capturing all of it takes 14 s on a CPU, and making its kernels a minute
        model.get_submodule(f"rgb_enc.{FIRST}").compile(backend="eager")
    elif form == "compiled":
        stepper.module.compile()
    stepper.train_mode()
    seconds = setup.seconds(lambda number: stepper.step(batch, number))
    return {"ms per step": 1e3 * seconds, "clips/s": len(batch.labels) / seconds}


CHECK = Check("memory_format", "a training step by memory layout, eager and compiled", run)
