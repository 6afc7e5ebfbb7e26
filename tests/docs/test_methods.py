"""docs/methods.md says of each method how many parameters the code has."""

import re

import pytest
import torch

from configs.methods import METHODS
from models import build_model
from tests.docs.markdown import ROOT, section

DOCUMENT = ROOT / "docs/methods.md"
HEADINGS = {method: "rgb, flow" if method in ("rgb", "flow") else method for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_its_number_of_parameters(method: str) -> None:
    written = re.findall(r"(\d+\.\d\d) M", section(DOCUMENT, HEADINGS[method]))
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build_model(method).parameters())
    assert f"{count / 1e6:.2f}" in written
