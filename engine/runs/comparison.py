"""Finished runs side by side: a row a method with its settings, means over seeds, and what makes rows differ."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from common.errors import UserError
from configs.methods import METHODS
from engine.runs.checkpoint import NEUTRAL_KEYS, State, changed_values
from engine.runs.records import SUMMARY, Parameters, Summary, is_over, read_config, read_summary

NO_SETTING = (*NEUTRAL_KEYS, "seed", "seeds", "model")  # a row is a model over its seeds


@dataclass(frozen=True)
class Run:
    """A finished run, as its folder tells it."""

    folder: Path
    config: State
    summary: Summary

    @property
    def stem(self) -> str:
        """Its name without its seed."""
        return str(self.config["name"]).removesuffix(f"-seed{self.config['seed']}")

    @property
    def setting(self) -> State:
        """What it was trained and scored on and how, whatever the method: its data, clips, budget and device."""
        measured = self.summary.model_dump(include={"splits", "device", "precision", "processes"})
        return {key: value for key, value in self.config.items() if key != "model"} | measured

    def is_like(self, other: "Run") -> bool:
        """Whether nothing but the seed tells the two apart."""
        same_model = self.config["model"] == other.config["model"]
        return same_model and not changed_values(self.setting, other.setting, NO_SETTING)


@dataclass(frozen=True)
class Row:
    """One method with its options and settings, over its seeds."""

    runs: tuple[Run, ...]
    setting: str  # a letter; rows of one letter may be compared

    @property
    def name(self) -> str:
        """The runs' name without their seeds."""
        return ", ".join(dict.fromkeys(run.stem for run in self.runs))

    @property
    def fusion(self) -> str:
        """The method."""
        return str(self.runs[0].config["model"]["fusion"]).rsplit("/", 1)[-1]

    @property
    def seeds(self) -> list[int]:
        """The seed of each run."""
        return [run.config["seed"] for run in self.runs]

    @property
    def split(self) -> str:
        """Which split the accuracies are of: test, where there is one."""
        return "val" if self.runs[0].summary.test is None else "test"

    def accuracies(self, kind: str) -> list[float]:
        """Return `top1` or `mean_class` of each run."""
        return [float(getattr(getattr(run.summary, self.split), kind)) for run in self.runs]

    def mean(self, key: str) -> float:
        """Return the mean over the runs of a number in their summaries."""
        return fmean(getattr(run.summary, key) for run in self.runs)

    @property
    def parameters(self) -> Parameters:
        """Numbers of parameters."""
        return self.runs[0].summary.parameters

    @property
    def peak_memory(self) -> int:
        """Bytes, of the run that took most."""
        return max(run.summary.peak_memory_bytes for run in self.runs)


@dataclass(frozen=True)
class Comparison:
    """The rows, and what has to be known to read them."""

    rows: list[Row]
    notes: list[str]


def compare(folders: Iterable[Path]) -> Comparison:
    """Read the runs in `folders` and put those that differ by their seed alone into one row; unfinished ones are noted.

    Raises:
        UserError: no run is finished, one is there twice, or a file of it cannot be read.
    """
    read = [(folder, read_run(folder)) for folder in dict.fromkeys(folders)]
    runs = [run for _, run in read if run is not None]
    unfinished = [str(folder) for folder, run in read if run is None]
    if not runs:
        raise UserError(f"--compare: no finished run (with a summary.json) among {', '.join(unfinished)}")
    settings: list[Run] = []  # one run of each setting
    rows = [Row(tuple(group), _letter(group[0], settings)) for group in _group(runs)]
    order = list(METHODS)
    rows.sort(key=lambda row: (row.setting, order.index(row.fusion) if row.fusion in order else len(order), row.name))
    notes = [f"not finished, left out: {', '.join(unfinished)}"] if unfinished else []
    return Comparison(rows, _describe(settings) + notes)


def read_run(folder: Path) -> Run | None:
    """Read a run's folder; None where it is not finished, goes on for more epochs, or is no run.

    Raises:
        UserError: its files are damaged, or are of a version that lacks what is compared.
    """
    if not (folder / SUMMARY).is_file():
        return None
    config, summary = read_config(folder), read_summary(folder)
    if not is_over(summary.epochs, summary.best_epoch, config["train"]):
        return None
    return Run(folder, config, summary)


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation, which one value does not have."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def _group(runs: Sequence[Run]) -> list[list[Run]]:
    """Put runs that are alike together, in order of their seeds."""
    groups: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: int(run.config["seed"])):
        group = next((group for group in groups if group[0].is_like(run)), None)
        if group is None:
            groups.append([run])
        elif group[-1].config["seed"] == run.config["seed"]:
            raise UserError(
                f"{group[-1].folder} and {run.folder}: both are seed {run.config['seed']} of the same config, "
                "which would count it twice; leave one out"
            )
        else:
            group.append(run)
    return groups


def _letter(run: Run, settings: list[Run]) -> str:
    """Return the letter of a run's setting, which is put on the list when it is new."""
    for number, other in enumerate(settings):
        if not changed_values(other.setting, run.setting, NO_SETTING):
            return _name(number)
    settings.append(run)
    return _name(len(settings) - 1)


def _name(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"


def _describe(settings: Sequence[Run]) -> list[str]:
    """Say how each setting differs from the first one."""
    first = settings[0].setting
    notes = []
    for number, run in enumerate(settings[1:], start=1):
        different = changed_values(first, run.setting, NO_SETTING)
        text = "; ".join(f"{key} is {_short(new)}, in A {_short(old)}" for key, old, new in different)
        notes.append(f"rows of setting {_name(number)} cannot be compared with those of A: {text}")
    return notes


def _short(value: Any) -> str:
    if isinstance(value, Mapping | list):
        return json.dumps(value)
    return str(value)
