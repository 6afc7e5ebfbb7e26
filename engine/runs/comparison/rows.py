"""Finished runs as rows: one per method with its options, over its seeds, and how it differs from what it must beat."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from common.errors import UserError
from configs.methods import METHODS
from engine.runs.checkpoint import State
from engine.runs.comparison.settings import describe, letter_of
from engine.runs.ensemble import ENSEMBLE, ensemble_of
from engine.runs.records import CONFIG, SUMMARY, Accuracy, Run, read_run
from engine.runs.trials import configs_in, count_trials
from engine.scoring.intervals import Interval, accuracy_interval, mean_interval
from engine.scoring.predictions import match, read_predictions, target_folder
from engine.scoring.reports import PREDICTIONS
from engine.scoring.robustness import CORRUPT, read_robustness
from pipeline.format.streams import STREAMS

LATE, BEST_STREAM = "late", "best stream"
REFERENCES = (LATE, ENSEMBLE, BEST_STREAM)  # what each row is held to
NO_PREDICTIONS = "there are no predictions that give the accuracy in summary.json; eval.py RUN writes them"
OF_TARGETS = "runs of several targets are compared by their accuracies alone"
SAME = 1e-6  # accuracies that are of the same predictions differ by less
ORDER = (*STREAMS, ENSEMBLE, *(name for name in METHODS if name not in STREAMS))


@dataclass(frozen=True)
class Difference:
    """How much more accurate a row is than another, on the same clips and over the seeds that both have."""

    other: str  # the other row's name
    mean: float
    interval: Interval

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return not self.interval.low <= 0 <= self.interval.high


@dataclass(frozen=True)
class Row:
    """One method with its options and settings, over its seeds.

    Attributes:
        setting: a letter; rows of one letter may be compared.
        interval: of the accuracy; None where a run's predictions are not there.
        differences: by what it is held to, one of REFERENCES; not to itself, nor to what is not there.
        trials: configurations of the method that were tried.
        faults: mean accuracy under each fault that `eval.py --corrupt` has scored for all runs, by its name.
    """

    runs: tuple[Run, ...]
    setting: str
    interval: Interval | None = None
    differences: Mapping[str, Difference] = field(default_factory=dict)
    trials: int = 1
    faults: Mapping[str, float] = field(default_factory=dict)

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
        return self.runs[0].split

    @property
    def num_clips(self) -> int | None:
        """How many clips the accuracies are of."""
        predictions = self.runs[0].predictions
        return None if predictions is None else len(predictions.hits)

    def accuracies(self, kind: str = "top1") -> list[float]:
        """Return `top1` or `mean_class` of each run."""
        return [float(getattr(getattr(run.summary, self.split), kind)) for run in self.runs]

    def mean_and_std(self, kind: str = "top1") -> tuple[float, float | None]:
        """Return the mean accuracy and the sample standard deviation, which one value does not have."""
        values = self.accuracies(kind)
        return fmean(values), stdev(values) if len(values) > 1 else None

    def mean(self, key: str) -> float:
        """Return the mean over the runs of a number in their summaries."""
        return fmean(getattr(run.summary, key) for run in self.runs)


@dataclass(frozen=True)
class Comparison:
    """The rows, and what has to be known to read them."""

    rows: list[Row]
    notes: list[str]

    @property
    def settings(self) -> dict[str, list[Row]]:
        """The rows that may be compared with one another, by their letter."""
        letters = dict.fromkeys(row.setting for row in self.rows)
        return {letter: [row for row in self.rows if row.setting == letter] for letter in letters}


def compare(folders: Iterable[Path]) -> Comparison:
    """Read runs, or folders of runs, and put those that differ by their seed alone into one row; note unfinished ones.

    Raises:
        UserError: no run is finished, one is there twice, or a file of it cannot be read.
    """
    read = [(folder, read_run(folder)) for folder in dict.fromkeys(find_runs(folders))]
    runs = [_with_predictions(run) for _, run in read if run is not None]
    unfinished = [str(folder) for folder, run in read if run is None]
    if not runs:
        raise UserError(f"--compare: no finished run (with a {SUMMARY}) among {', '.join(unfinished)}")
    settings: list[Run] = []  # one run of each setting
    rows = [Row(tuple(group), letter_of(group[0], settings)) for group in _group(runs)]
    rows += [row for setting in sorted({row.setting for row in rows}) for row in _ensembles(rows, setting)]
    rows.sort(key=lambda row: (row.setting, ORDER.index(row.fusion) if row.fusion in ORDER else len(ORDER), row.name))
    notes = [describe(number, settings) for number in range(1, len(settings))]
    notes += _without_intervals(runs)
    notes += [f"not finished, left out: {', '.join(unfinished)}"] if unfinished else []
    begun = {folder: configs_in(folder) for folder in {run.folder.parent for run in runs}}
    return Comparison([_completed(row, rows, begun) for row in rows], notes)


def _without_intervals(runs: Iterable[Run]) -> list[str]:
    """Say of which runs there are no predictions to compare, and why."""
    found: dict[str, list[str]] = {}
    for run in runs:
        if run.predictions is None:
            scored = run.folder / run.split
            reason = NO_PREDICTIONS if target_folder(scored) == scored else OF_TARGETS
            found.setdefault(reason, []).append(str(run.folder))
    return [f"without intervals, as {reason}: {', '.join(folders)}" for reason, folders in found.items()]


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """The runs among `folders`, and those in them."""
    found: list[Path] = []
    for folder in folders:
        inside = [path for path in sorted(folder.glob("*/")) if (path / CONFIG).exists() or (path / SUMMARY).exists()]
        found += inside if inside and not (folder / SUMMARY).exists() else [folder]
    return found


def _with_predictions(run: Run) -> Run:
    """A run with its predictions, where they are there and are those that its accuracy is of."""
    folder = run.folder / run.split
    if not (folder / PREDICTIONS).is_file():
        return run
    predictions = read_predictions(folder)
    accuracy: Accuracy = getattr(run.summary, run.split)
    return replace(run, predictions=predictions) if abs(predictions.top1 - accuracy.top1) < SAME else run


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


def _ensembles(rows: Sequence[Row], setting: str) -> list[Row]:
    """The single streams of a setting, trained apart and averaged seed by seed: a row, where there are two of them."""
    members = [row for stream in STREAMS if (row := _best(rows, setting, [stream]))]
    by_seed = [{run.config["seed"]: run for run in row.runs if run.predictions} for row in members]
    seeds = [seed for seed in by_seed[0] if all(seed in runs for runs in by_seed)] if len(members) > 1 else []
    return [Row(tuple(ensemble_of([runs[seed] for runs in by_seed]) for seed in seeds), setting)] if seeds else []


def _best(rows: Sequence[Row], setting: str, fusions: Iterable[str]) -> Row | None:
    """The row of some methods with the highest accuracy in validation: chosen in test, it would be flattered."""
    candidates = [row for row in rows if row.setting == setting and row.fusion in fusions]
    return max(candidates, key=lambda row: fmean(run.summary.val.top1 for run in row.runs), default=None)


def _completed(row: Row, rows: Sequence[Row], begun: Mapping[Path, Sequence[State]]) -> Row:
    """A row with its interval, its differences and its trials, of the configs that were `begun` in each folder."""
    held_to = {
        LATE: _best(rows, row.setting, [LATE]),
        ENSEMBLE: _best(rows, row.setting, [ENSEMBLE]),
        BEST_STREAM: _best(rows, row.setting, STREAMS),
    }
    others = {kind: difference(row, other) for kind, other in held_to.items() if other is not None and other is not row}
    hits = [run.predictions.hits for run in row.runs if run.predictions is not None]
    counted = [count_trials(run.config, begun[run.folder.parent]) for run in row.runs if row.fusion != ENSEMBLE]
    return replace(
        row,
        interval=accuracy_interval(np.stack(hits)) if len(hits) == len(row.runs) else None,
        differences={kind: found for kind, found in others.items() if found is not None},
        faults=_faults(row),
        trials=max([1, *counted, *(run.summary.trials for run in row.runs)]),
    )


def _faults(row: Row) -> dict[str, float]:
    found = [read_robustness(run.folder / f"{run.split}-{CORRUPT}") for run in row.runs if row.fusion != ENSEMBLE]
    scored = [robustness.faults if robustness else {} for robustness in found]
    names = [name for name in scored[0] if all(name in each for each in scored)] if scored else []
    return {name: fmean(each[name] for each in scored) for name in names}


def difference(row: Row, other: Row) -> Difference | None:
    """How much more accurate `row` is than `other`; None where they share no seed whose predictions are there.

    Raises:
        UserError: their predictions are of other clips, labels or classes.
    """
    there = {run.config["seed"]: run.predictions for run in other.runs}
    pairs = [
        match([run.predictions, theirs])
        for run in row.runs
        if run.predictions is not None and (theirs := there.get(run.config["seed"])) is not None
    ]
    if not pairs:
        return None
    values = np.stack([one.hits - two.hits for one, two in pairs])
    return Difference(other.name, float(values.mean()), mean_interval(values))
