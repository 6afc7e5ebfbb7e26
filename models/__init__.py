"""The methods by name, all behind one contract (models/fusion.py)."""

from typing import Any

from common.errors import ConfigError
from configs.load import parse_options
from configs.methods import METHODS
from configs.outside import find_class
from models.fusion import Fit, FitResult, FusionModel, FusionOutput, GradientStep, Training

FUSIONS: dict[str, type[FusionModel]] = {
    fusion: find_class(options.implementation) for fusion, options in METHODS.items()
}


def build_model(fusion: str, num_classes: int = 8, **options: Any) -> FusionModel:
    """Build a method, by name or from outside, with the options of the config's model section.

    With `pretrained=None` no weights are read, which is what a model wants that is about to load a checkpoint.

    Raises:
        ConfigError: an unknown method or option, a value out of range, or pretrained weights that are not there.
    """
    parsed = parse_options(fusion, num_classes=num_classes, **options)
    method = FUSIONS.get(fusion) or find_class(parsed.fusion)
    if not issubclass(method, FusionModel):
        raise ConfigError(f"model.fusion: {fusion} is no models.FusionModel")
    return method(parsed)


__all__ = ["FUSIONS", "Fit", "FitResult", "FusionModel", "FusionOutput", "GradientStep", "Training", "build_model"]
