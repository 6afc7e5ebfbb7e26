"""Settings: what keeps rows of a comparison apart, each with a letter, and in words."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.runs.checkpoint import changed_values
from engine.runs.records import SEEDS, Run

# What rows that are compared may differ in beside their seeds: the method, and an ablation of its training.
OF_A_METHOD = (*SEEDS, "model", "clip.synchronized")


def letter_of(run: Run, settings: list[Run]) -> str:
    """Return the letter of a run's setting, which is put on the list when it is new."""
    for number, other in enumerate(settings):
        if not _differing(other, run):
            return _name(number)
    settings.append(run)
    return _name(len(settings) - 1)


def _differing(first: Run, other: Run) -> list[tuple[str, Any, Any]]:
    """What keeps two runs from being compared: key, value of the first, value of the other."""
    return changed_values(first.recipe, other.recipe, OF_A_METHOD)


def describe(number: int, settings: Sequence[Run]) -> str:
    """Say how a setting differs from the first one."""
    different = _differing(settings[0], settings[number])
    text = "; ".join(f"{key} is {_short(new)}, in A {_short(old)}" for key, old, new in different)
    return f"rows of setting {_name(number)} cannot be compared with those of A: {text}"


def _short(value: Any) -> str:
    return json.dumps(value) if isinstance(value, Mapping | list) else str(value)


def _name(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"
