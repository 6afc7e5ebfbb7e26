"""Fixtures of the pipeline's tests: every form of a split, and both decoders."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import loader as loader_module


@pytest.fixture(params=["split", "raw_split"])
def any_split(request: pytest.FixtureRequest) -> Path:
    """The same clips as JPEGs and as pixels."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["dali", "turbojpeg"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `auto` stands for: each decoder in turn, unless a test names one itself."""
    opened = loader_module.open_decoders

    def open_named(specs: Any, device: Any, num_threads: int, prefetch: int, name: str) -> Any:
        return opened(specs, device, num_threads, prefetch, request.param if name == "auto" else name)

    monkeypatch.setattr(loader_module, "open_decoders", open_named)
    return request.param
