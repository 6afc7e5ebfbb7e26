"""How far every method is from what the published network computes, a line a method and quantity.

    python -m benchmarks.training.published REFERENCE [--methods rgb xnorm ...] [--threads 2]

REFERENCE is a folder with weights.py (weights and inputs that follow from names and shapes),
published_state_shapes.json and published_outputs.npz (what the published networks compute on them, in fp32).
The two last columns are how far ours are from the published numbers, as a share of the largest of them. Ours in fp64
have no rounding to speak of, so that column is the rounding of the published numbers, and ours in fp32 may be as far.
"""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.command import argument_parser
from models import FusionModel, FusionOutput, build_model
from models.checkpoint import load_published
from pipeline.profile.report import markdown_table

METHODS = ("rgb", "flow", "early", "late", "misa", "mult", "gblend", "xnorm")
FROZEN = ("misa", "mult")  # by the published code, so that the trunk's gradient is no part of the norm
STAGES = ("Mixed_3b", "Mixed_5c")  # of rgb's trunk, whose features the reference has
MISA_TERMS = ("diff", "cmd", "recon")


class Compared(NamedTuple):
    """A quantity of a method: the published number or numbers, and ours."""

    quantity: str
    published: NDArray[np.float32]
    ours: NDArray[np.float64]

    @property
    def difference(self) -> float:
        """The largest distance, as a share of the largest published value."""
        return float(np.abs(self.ours - self.published).max() / np.abs(self.published).max())


@dataclass(frozen=True)
class Reference:
    """The reference folder."""

    folder: Path

    def compare(self, method: str, dtype: torch.dtype) -> Iterator[Compared]:
        """Compute in `dtype` all that the folder has of `method`, from its weights and inputs, in eval mode."""
        model = self.build(method).to(dtype)
        features: dict[str, Tensor] = {}
        if method == "rgb":
            for stage in STAGES:
                model.get_submodule(f"rgb_enc.{stage}").register_forward_hook(_keep(features, stage))
        rgb, flow, labels = (torch.from_numpy(array) for array in self.weights.reference_inputs())
        output = model(rgb.to(dtype), flow.to(dtype))
        losses = model.losses(output, labels)
        losses["cls"].backward()  # type: ignore[no-untyped-call]  # torch's own
        for quantity, ours in _quantities(method, model, output, losses):
            yield Compared(quantity, self.outputs[f"{method}.{quantity}"], ours.detach().double().numpy())
        for stage, x in features.items():
            mean_abs = x.abs().mean((0, 2, 3, 4)).double().numpy()
            yield Compared(f"{stage}.mean_abs", self.outputs[f"i3d.{stage}.mean_abs"], mean_abs)

    def build(self, method: str) -> FusionModel:
        """Build `method` with the folder's weights."""
        model = build_model(method, freeze_trunk=method in FROZEN).eval()
        state = self.weights.reference_state(self.shapes[method])
        load_published(model, {name: torch.from_numpy(value) for name, value in state.items()})
        return model

    @cached_property
    def weights(self) -> ModuleType:
        """The folder's own module."""
        spec = importlib.util.spec_from_file_location("reference_weights", self.folder / "weights.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @cached_property
    def shapes(self) -> dict[str, dict[str, list[int]]]:
        """The published names and shapes by method."""
        shapes: dict[str, dict[str, list[int]]] = json.loads((self.folder / "published_state_shapes.json").read_text())
        return shapes

    @cached_property
    def outputs(self) -> dict[str, NDArray[np.float32]]:
        """What the published networks compute, as `<method>.<quantity>`."""
        with np.load(self.folder / "published_outputs.npz") as arrays:
            return dict(arrays)


def _quantities(
    method: str, model: FusionModel, output: FusionOutput, losses: dict[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Name ours as the reference does."""
    if method == "gblend":
        yield from (("joint", output.logits), ("rgb", output.extra["rgb"]), ("flow", output.extra["flow"]))
    else:
        yield "logits", output.logits
    yield "ce", losses["cls"]
    if method == "misa":
        options: Any = model.options
        yield from ((term, losses[term] / getattr(options, f"{term}_weight")) for term in MISA_TERMS)
    # Summed in fp64: in fp32 the sum over 30 million squares is itself off by up to 2e-3.
    squares = [parameter.grad.double().square().sum() for parameter in model.parameters() if parameter.grad is not None]
    yield "grad_norm", torch.stack(squares).sum().sqrt()


def _keep(features: dict[str, Tensor], stage: str) -> Any:
    def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
        features[stage] = output.detach()

    return hook


def main() -> None:
    """Compute both columns and print the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("reference", type=Path, help="the folder")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    reference = Reference(arguments.reference)
    rows = []
    for method in arguments.methods:
        columns = [list(reference.compare(method, dtype)) for dtype in (torch.float32, torch.float64)]
        for single, double in zip(*columns, strict=True):
            published = np.atleast_1d(single.published).ravel()
            shown = f"{published[0]:.6g}" if len(published) == 1 else f"{published.size} values"
            rows.append([method, single.quantity, shown, f"{single.difference:.1e}", f"{double.difference:.1e}"])
    print(markdown_table(["method", "quantity", "published", "fp32", "fp64"], rows))


if __name__ == "__main__":
    main()
