"""Subsets of EPIC-KITCHENS-100: participants that training does not see, and classes that it sees seldom (the tail)."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from configs.schema import DataSection
from models.targets import NOUN, VERB

UNSEEN = "EPIC_100_unseen_participant_ids_{}.csv"  # validation, test
TAIL = {VERB: "EPIC_100_tail_verbs.csv", NOUN: "EPIC_100_tail_nouns.csv"}


@dataclass(frozen=True)
class Subsets:
    """Who is unseen, and which classes are of the tail; None where the annotations' folder does not say.

    A clip's action is of the tail where its verb or its noun is, as the challenge has it.
    """

    unseen: frozenset[str] | None
    tail: Mapping[str, frozenset[int] | None]

    def masks(self, participants: Sequence[str], labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return which of N clips count for what, [N], by the name of the metric; labels are int64 [N] by target."""
        masks: dict[str, Tensor] = {}
        if self.unseen is not None:
            unseen = torch.tensor([participant in self.unseen for participant in participants])
            masks |= {f"unseen_{target}": unseen for target in (VERB, NOUN, "action")}
        tail = {
            target: torch.from_numpy(np.isin(labels[target].numpy(), sorted(classes)))
            for target, classes in self.tail.items()
            if classes is not None
        }
        masks |= {f"tail_{target}": mask for target, mask in tail.items()}
        if len(tail) == len(TAIL):
            masks["tail_action"] = tail[VERB] | tail[NOUN]
        return masks


def find_subsets(data: DataSection, split: str) -> Subsets:
    """Read the lists that lie beside the annotations of `split`.

    Raises:
        UserError: a list cannot be read.
    """
    paths = data.annotations.splits()[split]
    folders = dict.fromkeys(path.parent for path in paths)
    of = "test" if any("test" in path.name for path in paths) else "validation"
    unseen = _column(folders, UNSEEN.format(of), "participant_id")
    tail: dict[str, frozenset[int] | None] = {}
    for target, file in TAIL.items():
        classes = _column(folders, file, target)
        kept = data.rows.classes.get(target)
        numbers = None if classes is None else [int(number) for number in classes]
        if numbers is not None and kept is not None:  # a preset that takes some classes numbers them anew
            numbers = [kept.index(number) for number in numbers if number in kept]
        tail[target] = None if numbers is None else frozenset(numbers)
    return Subsets(None if unseen is None else frozenset(unseen), tail)


def _column(folders: Mapping[Path, None], file: str, column: str) -> list[str] | None:
    path = next((folder / file for folder in folders if (folder / file).is_file()), None)
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            values = [(row.get(column) or "").strip() for row in csv.DictReader(lines)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from None
    if not all(values) or (column in TAIL and not all(value.isdecimal() for value in values)):
        raise UserError(f"{path}: allowed: a column {column} with a value in each line")
    return values
