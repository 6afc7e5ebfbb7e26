"""The parameters and the memory that the recipes for all of EPIC-KITCHENS-100 name are those that are counted."""

import re
from pathlib import Path

import pytest
import torch

from configs import load_config
from engine.model_cost import GIB, count_training_bytes
from models import build_model

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["late", "xnorm"])
def test_a_recipe_names_its_parameters_and_memory_on_eight_gpus(fusion: str) -> None:
    path = CONFIGS / f"epic100-{fusion}.yaml"
    config = load_config(path)
    with torch.device("meta"):
        model = build_model(**config.model.model_dump())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    _, activations = count_training_bytes(model, config.clip, config.loader.batch_size // 8)
    found = re.search(r"Counted: (\S+) M parameters; .* (\S+) GiB of activations", path.read_text())
    assert found is not None
    assert found.groups() == (f"{parameters / 1e6:.2f}", f"{activations / GIB:.1f}")
