"""Predictions of a scored split, read back from its folder, and matched clip by clip and class by class."""

import csv
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError, listed
from engine.scoring.reports import METRICS, PREDICTIONS
from pipeline.format.streams import UNKNOWN

SCORE = "score_"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a folder says of the N clips of a split, in the order of their ids.

    Attributes:
        folder: where it was read.
        clip_ids: [N], sorted.
        labels: int64 [N], -1 where unknown.
        scores: float64 [N, C], the softmax of the logits.
        classes: names of the classes [C]; None where the data have none.
    """

    folder: Path
    clip_ids: list[str]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    classes: list[str] | None

    @property
    def hits(self) -> NDArray[np.float64]:
        """1 where the likeliest class is the label, of the clips that have one."""
        known = self.labels != UNKNOWN
        return np.array(self.scores[known].argmax(axis=1) == self.labels[known], np.float64)

    @property
    def top1(self) -> float:
        """The accuracy; NaN where no clip has a label."""
        return float(self.hits.mean()) if len(self.hits) else math.nan


def target_folder(folder: Path) -> Path:
    """Return where the predictions of a scored split are: in its folder, or of several targets in that of the first."""
    with suppress(OSError, ValueError, AttributeError, RecursionError):  # said by who reads them
        targets = json.loads((folder / METRICS).read_text("utf-8")).get("targets")
        if isinstance(targets, list) and targets and str(targets[0]) == Path(str(targets[0])).name:
            return folder / str(targets[0])
    return folder


def read_predictions(folder: Path) -> Predictions:
    """Read what `write_reports` wrote into `folder`; of several targets, the first one's.

    Raises:
        UserError: it is missing or damaged.
    """
    folder = target_folder(folder)
    path = folder / PREDICTIONS
    try:
        about: Any = json.loads((folder / METRICS).read_text("utf-8"))
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        first = header.index(f"{SCORE}0")
        label = header.index("label")
        rows.sort(key=lambda row: row[0])
        labels = np.array([int(row[label]) for row in rows], np.int64)
        scores = np.array([row[first:] for row in rows], np.float64)
        classes = about.get("classes")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; score that split first, by eval.py") from None
    except (OSError, ValueError, IndexError, AttributeError, RecursionError, csv.Error) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); score that split anew, by eval.py") from None
    if scores.shape != (len(rows), len(header) - first) or not np.isfinite(scores).all() or not len(rows):
        raise UserError(f"{path}: damaged (not a score of each class in each line); score that split anew, by eval.py")
    return Predictions(folder, [row[0] for row in rows], labels, scores, classes)


def match(predictions: Sequence[Predictions]) -> list[Predictions]:
    """Give all of them the classes of the first, in its order.

    Raises:
        UserError: they are of other clips, labels or classes.
    """
    first = predictions[0]
    matched = [first, *(_with_classes_of(first, other) for other in predictions[1:])]
    for other in matched[1:]:
        where = f"{first.folder} and {other.folder}"
        apart = sorted(set(first.clip_ids) ^ set(other.clip_ids))
        if apart or first.clip_ids != other.clip_ids:
            raise UserError(f"{where}: not of the same clips; in one alone: {listed(apart, 3) or 'an id twice'}")
        wrong = (first.labels != other.labels).nonzero()[0]
        if len(wrong):
            clip, one, two = wrong[0], first.labels[wrong[0]], other.labels[wrong[0]]
            raise UserError(f"{where}: clip {first.clip_ids[clip]} has label {one} in the first and {two} in the other")
    return matched


def _with_classes_of(first: Predictions, other: Predictions) -> Predictions:
    """`other` with its classes in the order of the first's; without names on a side numbers are taken as they are."""
    where = f"{first.folder} and {other.folder}"
    count, own = first.scores.shape[1], other.scores.shape[1]
    if count != own:
        raise UserError(f"{where}: not of the same classes: {count} and {own} of them")
    if first.classes is None or other.classes is None or first.classes == other.classes:
        return other
    apart = sorted(set(first.classes) ^ set(other.classes))
    if apart:
        raise UserError(f"{where}: not of the same classes; in one alone: {listed(apart, 5)}")
    places = np.array([other.classes.index(name) for name in first.classes])  # of the first's classes in the other
    numbers = np.array([first.classes.index(name) for name in other.classes])
    labels = np.where(other.labels == UNKNOWN, UNKNOWN, numbers[other.labels])
    return Predictions(other.folder, other.clip_ids, labels, other.scores[:, places], first.classes)
