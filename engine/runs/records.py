"""What a run's folder says of it: its config and summary, which may be damaged or of another version."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from common.errors import ConfigError, UserError
from common.safe_yaml import read_yaml

CONFIG, SUMMARY = "config.yaml", "summary.json"


class Accuracy(BaseModel):
    """Of a split, as fractions."""

    top1: float
    mean_class: float


class Parameters(BaseModel):
    """How many."""

    total: int
    trainable: int


class Summary(BaseModel):
    """What comparing runs, and going on with one, needs of summary.json."""

    val: Accuracy
    test: Accuracy | None
    epochs: int
    best_epoch: int
    parameters: Parameters
    gflops_per_clip: float
    clips_per_s: float
    data_wait: float
    peak_memory_bytes: int
    wall_seconds: float = math.nan
    splits: dict[str, int]
    device: str
    precision: str
    processes: int


class _Method(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]
    fusion: str


class _Config(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]
    name: str
    seed: int
    model: _Method
    train: dict[str, JsonValue]


Record = TypeVar("Record", bound=BaseModel)


def is_over(epoch: int, best_epoch: int, train: Mapping[str, Any]) -> bool:
    """Whether all epochs of a `train` section are done, or the last `stop_patience` of them brought nothing better."""
    return bool(epoch >= train["epochs"] or epoch - best_epoch >= train["stop_patience"])


def read_config(folder: Path) -> dict[str, Any]:
    """The config that a run began with.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / CONFIG
    try:
        return _Config.model_validate(read_yaml(path)).model_dump()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: damaged ({_reason(error)}); restore it, or remove {folder}") from None


def read_summary(folder: Path) -> Summary:
    """What a finished run came to.

    Raises:
        UserError: it is damaged, or lacks what is compared.
    """
    path = folder / SUMMARY
    try:
        return Summary.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: damaged, or of another version of train.py ({_reason(error)}); "
            "train that run anew, or leave it out"
        ) from None


def _reason(error: OSError | ValueError) -> str:
    """One line of why."""
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0]
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
