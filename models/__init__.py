"""The methods by name, all behind one contract (models/fusion.py)."""

from typing import Any

from configs.methods import parse_options
from models.early import EarlyFusion
from models.fusion import Fit, FitResult, FusionModel, FusionOutput
from models.gblend import GradientBlending
from models.late import LateFusion
from models.misa import Misa
from models.mult import MulT
from models.tfn import TensorFusion
from models.unimodal import FlowOnly, RgbOnly
from models.xnorm import XNorm

FUSIONS: dict[str, type[FusionModel]] = {
    "rgb": RgbOnly,
    "flow": FlowOnly,
    "early": EarlyFusion,
    "late": LateFusion,
    "tfn": TensorFusion,
    "misa": Misa,
    "mult": MulT,
    "gblend": GradientBlending,
    "xnorm": XNorm,
}


def build_model(fusion: str, num_classes: int = 8, **options: Any) -> FusionModel:
    """Build a method, by name, with the options of the config's model section.

    With `pretrained=None` no weights are read, which is what a model wants that is about to load a checkpoint.

    Raises:
        ConfigError: an unknown method or option, a value out of range, or pretrained weights that are not there.
    """
    parsed = parse_options(fusion, num_classes=num_classes, **options)
    return FUSIONS[fusion](parsed)


__all__ = ["FUSIONS", "Fit", "FitResult", "FusionModel", "FusionOutput", "build_model"]
