"""Where frames are decoded, by what the config says and where the model is."""

from typing import Any

import pytest
import torch

from configs.schema import LoaderSection
from engine.loaders import decoding

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("settings", "model_device", "device", "decoder"),
    [
        ({}, CPU, "cpu", "auto"),
        ({}, GPU, "cuda:1", "auto"),
        ({"device": "cpu"}, CPU, "cpu", "auto"),
        ({"device": "cpu"}, GPU, "cuda:1", "turbojpeg"),  # decoded on the CPU, and uploaded
        ({"device": "cpu", "decoder": "dali"}, GPU, "cpu", "dali"),
        ({"device": "cuda"}, GPU, "cuda", "auto"),
        ({"decoder": "turbojpeg"}, GPU, "cuda:1", "turbojpeg"),
    ],
    ids=str,
)
def test_batches_come_out_where_the_model_is(
    settings: dict[str, Any], model_device: torch.device, device: str, decoder: str
) -> None:
    section = LoaderSection.model_construct(**({"device": "auto", "decoder": "auto"} | settings))
    assert decoding(section, model_device) == {"device": device, "decoder": decoder}
