"""docs/methods.md says of each method what the code has: its options with their defaults, its parameters."""

import re

import pytest
import torch
import yaml

from configs.load import parse_options
from configs.methods import METHODS
from models import build_model
from tests.docs.markdown import ROOT, section, table

DOCUMENT = ROOT / "docs/methods.md"
COMMON = "Options of all methods"
KEY = "key of `model`"
HEADINGS = {method: "rgb, flow" if method in ("rgb", "flow") else method for method in METHODS}


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("method", METHODS)
def test_its_number_of_parameters(method: str) -> None:
    written = re.findall(r"(\d+\.\d\d) M", section(DOCUMENT, HEADINGS[method]))
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build_model(method).parameters())
    assert f"{count / 1e6:.2f}" in written


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_its_own_is_named(method: str) -> None:
    common = {name for row in table(DOCUMENT, COMMON, KEY) for name in named(row[KEY])}
    text = section(DOCUMENT, HEADINGS[method])
    own = METHODS[method].model_fields.keys() - common
    assert [name for name in own if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("heading", [COMMON, *dict.fromkeys(HEADINGS.values())])
def test_the_defaults_in_its_tables(heading: str) -> None:
    method = heading if heading in METHODS else "xnorm"
    defaults = parse_options(method).model_dump(mode="json")
    for row in table(DOCUMENT, heading, KEY, "default"):
        written = yaml.safe_load(f"[{row['default'].strip('`')}]")
        assert written == [defaults[key] for key in named(row[KEY])], row
