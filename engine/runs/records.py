"""Validated reading of a run's config.yaml and summary.json, which may be damaged or of another version."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from common.errors import ConfigError, UserError
from common.safe_yaml import read_yaml
from configs import load
from engine.runs.checkpoint import NEUTRAL_KEYS, State, changed_values
from engine.scoring.predictions import Predictions

CONFIG, SUMMARY = "config.yaml", "summary.json"
SEEDS = (*NEUTRAL_KEYS, "seed", "seeds")  # what a row of a comparison may have several of


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
    improved_epoch: int | None = None  # the first with the best epoch's score; None: of an older version, the best
    parameters: Parameters
    gflops_per_clip: float
    clips_per_s: float
    data_wait: float
    peak_memory_bytes: int
    wall_seconds: float = math.nan
    trials: int = 0  # configurations of the method that had been tried when it ended; 0: an older version did not count
    splits: dict[str, int]
    device: str
    precision: str
    processes: int

    def is_over(self, train: Mapping[str, Any]) -> bool:
        """Whether the run is, with the epochs and the patience of a `train` section."""
        return is_over(self.epochs, self.improved_epoch or self.best_epoch, train)


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


@dataclass(frozen=True)
class Run:
    """A finished run, as its folder tells it."""

    folder: Path
    config: State
    summary: Summary
    predictions: Predictions | None = None  # of the split that its accuracy is of

    @property
    def stem(self) -> str:
        """Its name without its seed."""
        return str(self.config["name"]).removesuffix(f"-seed{self.config['seed']}")

    @property
    def split(self) -> str:
        """Which split its accuracy is of: test, where there is one."""
        return "val" if self.summary.test is None else "test"

    @property
    def recipe(self) -> State:
        """All that its numbers depend on: its config, and what was measured of data and device."""
        measured = self.summary.model_dump(include={"splits", "device", "precision", "processes"})
        return with_defaults(self.config) | measured

    def is_like(self, other: "Run") -> bool:
        """Whether nothing but the seed tells the two apart."""
        return not changed_values(self.recipe, other.recipe, SEEDS)


def with_defaults(config: State) -> State:
    """A config with the keys that it lacks, of an older version, as they are unless asked otherwise."""
    sections = {name: content for name, content in config.items() if isinstance(content, dict)}
    return config | {name: _defaults().get(name, {}) | content for name, content in sections.items()}


@cache
def _defaults() -> dict[str, Any]:
    defaults: dict[str, Any] = read_yaml(load.BASE)
    return defaults


def is_over(epoch: int, improved_epoch: int, train: Mapping[str, Any]) -> bool:
    """Whether all epochs of a `train` section are done, or the last `stop_patience` of them brought nothing better."""
    return bool(epoch >= train["epochs"] or epoch - improved_epoch >= train["stop_patience"])


def commonest_share(summary: Mapping[str, Any], split: str = "val") -> float | None:
    """The share of a split's commonest class, which is the accuracy of saying nothing else.

    None where the summary, of another version, does not count classes, no clip has one, or there are several targets.
    """
    classes = summary.get("data", {}).get(split, {}).get("classes", {})
    counts = list(next(iter(classes.values()), {}).values()) if len(classes) == 1 else []
    return max(counts) / sum(counts) if any(counts) else None


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


def read_run(folder: Path) -> Run | None:
    """Read a run's folder; None where it is not finished, goes on for more epochs, or is no run.

    Raises:
        UserError: its files are damaged, or are of a version that lacks what is compared.
    """
    if not (folder / SUMMARY).is_file():
        return None
    config, summary = read_config(folder), read_summary(folder)
    if not summary.is_over(config["train"]):
        return None
    return Run(folder, config, summary)


def _reason(error: OSError | ValueError) -> str:
    """One line of why."""
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0]
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
