"""Accuracy under faults of a stream: a table, curves over their severity, and JSON to read back."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydantic import BaseModel, ValidationError
from rich.table import Table

from common.errors import UserError
from common.files import atomic_files, make_folder
from common.palette import INK, TEST
from engine.scoring.corruption import KINDS, Corruption
from engine.scoring.evaluation import Evaluation
from engine.scoring.intervals import accuracy_interval
from engine.scoring.reports import write_json

CORRUPT, CORRUPTION = "corrupt", "corruption.json"  # the end of the folder's name; the file in it


class Scored(BaseModel):
    """Accuracies under one fault, as fractions; of no fault `stream` and `kind` are None, and the severity 0."""

    stream: str | None
    kind: str | None
    severity: float
    top1: float
    low: float  # of the 95 % interval of top1
    high: float
    mean_class: float

    @property
    def name(self) -> str:
        """As it is written on a command line."""
        return "as it is" if self.kind is None else str(Corruption(str(self.stream), self.kind, self.severity))


class Robustness(BaseModel):
    """A checkpoint's accuracies on a split, first without a fault, then under each."""

    checkpoint: str
    split: str
    clips: int
    scores: list[Scored]

    @property
    def faults(self) -> dict[str, float]:
        """The accuracy under each fault, by its name."""
        return {score.name: score.top1 for score in self.scores if score.kind is not None}


def score_faults(
    checkpoint: Path, split: str, clean: Evaluation, faults: Sequence[tuple[Corruption, Evaluation]]
) -> Robustness:
    """Sum up what was scored.

    Raises:
        UserError: no clip has a label.
    """
    scores = [_scored(None, clean), *(_scored(corruption, evaluation) for corruption, evaluation in faults)]
    known = int(clean.known.sum())
    return Robustness(checkpoint=checkpoint.name, split=split, clips=known, scores=scores)


def _scored(corruption: Corruption | None, evaluation: Evaluation) -> Scored:
    if evaluation.main is None or evaluation.main.mean_class is None:
        raise UserError("--corrupt: no clip of this split has a label; allowed: a split with labels")
    hits = evaluation.hits[evaluation.known].double().numpy()
    interval = accuracy_interval(hits[np.newaxis])
    about = {"stream": None, "kind": None, "severity": 0.0} if corruption is None else vars(corruption)
    return Scored(**about, **interval._asdict(), top1=float(hits.mean()), mean_class=evaluation.main.mean_class)


def read_robustness(folder: Path) -> Robustness | None:
    """Read what `write_robustness` wrote into `folder`; None where nothing is.

    Raises:
        UserError: it is damaged.
    """
    path = folder / CORRUPTION
    try:
        return Robustness.model_validate_json(path.read_bytes()) if path.exists() else None
    except (OSError, ValidationError):
        raise UserError(f"{path}: damaged, or of another version; score it anew, by eval.py --corrupt") from None


def write_robustness(robustness: Robustness, folder: Path) -> None:
    """Write corruption.json and corruption.png into `folder`.

    Raises:
        UserError: the folder cannot be written to.
    """
    make_folder(folder)
    with atomic_files(folder) as create:
        write_json(create(CORRUPTION, "w"), robustness.model_dump())
        _draw(robustness, create("corruption.png"))


def robustness_table(robustness: Robustness, title: str) -> Table:
    """A table for the terminal: one row per fault."""
    table = Table(title=title, caption=f"{robustness.clips} clips; 95 %: the interval for other clips")
    for column in ("fault", "accuracy", "95 %", "mean-class", "change"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    clean = robustness.scores[0].top1
    for score in robustness.scores:
        change = "" if score.kind is None else f"{100 * (score.top1 - clean):+.1f}"
        interval = f"{100 * score.low:.1f} to {100 * score.high:.1f}"
        table.add_row(score.name, f"{score.top1:.1%}", interval, f"{score.mean_class:.1%}", change)
    return table


def _draw(robustness: Robustness, file: IO[bytes]) -> None:
    """Draw the accuracy over each fault's severity, from none on, with its interval."""
    from matplotlib.figure import Figure  # here: slow to import; Figure alone needs no display

    clean, *faults = robustness.scores
    kinds = list(dict.fromkeys((score.stream, score.kind) for score in faults))
    figure = Figure(figsize=(1 + 3 * len(kinds), 3.2), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        _draw_kind(axes, [clean, *(score for score in faults if (score.stream, score.kind) == kind)])
        axes.set(title=":".join(map(str, kind)), xlabel=KINDS[str(kind[1])].unit, ylim=(0, 1.02))
    figure.axes[0].set_ylabel(f"accuracy on {robustness.split}, {robustness.clips} clips")
    figure.savefig(file, format="png", dpi=120)


def _draw_kind(axes: Any, scores: Sequence[Scored]) -> None:
    severities, accuracies = [score.severity for score in scores], [score.top1 for score in scores]
    axes.fill_between(
        severities, [score.low for score in scores], [score.high for score in scores], color=TEST, alpha=0.2
    )
    axes.plot(severities, accuracies, "o-", color=TEST)
    for severity, accuracy in zip(severities, accuracies, strict=True):
        axes.annotate(
            f"{accuracy:.0%}", (severity, accuracy), (0, 6), textcoords="offset points", color=INK, ha="center"
        )
    labels = ["as it is", "missing"] if scores[-1].kind == "missing" else [f"{severity:g}" for severity in severities]
    axes.set_xticks(severities, labels)
    axes.margins(x=0.15)
