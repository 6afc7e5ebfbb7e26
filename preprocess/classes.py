"""Class names: from a list beside the annotations, or from the text beside their numbers."""

import csv
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from common.errors import UserError, listed

MAX_CLASSES = 1_000_000
MAX_NAME = 200  # characters


def class_names(
    target: str, column: str, folders: Iterable[Path], texts: Mapping[int, Counter[str]], taken: Sequence[int] | None
) -> tuple[tuple[str, ...] | None, list[str]]:
    """Names of a target's classes, from 0 on, and notes; None where nothing names them.

    Args:
        column: of the class numbers: verb_class is named by EPIC_100_verb_classes.csv.
        folders: where the annotations lie.
        texts: how often each class is written how.
        taken: the classes that a preset takes, in its order; None: all.

    Raises:
        UserError: a list of classes is wrong.
    """
    kind = column.removesuffix("_class")
    files = dict.fromkeys(
        ("classes.csv", f"{target}_classes.csv", f"{kind}_classes.csv", f"EPIC_100_{kind}_classes.csv")
    )
    path = next((folder / file for folder in folders for file in files if (folder / file).is_file()), None)
    names = _read(path) if path is not None else _from_texts(texts)
    if taken is not None:
        names = {position: names[number] for position, number in enumerate(taken) if number in names}
    if not names:
        return None, []
    every = tuple(names.get(number, str(number)) for number in range(max(names) + 1))
    return every, list(_alike(target, names, texts))


def _read(path: Path) -> dict[int, str]:
    """A CSV of `id` and `key`, among others."""
    names: dict[int, str] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for row in (reader := csv.DictReader(file)):
                number, name = (row.get("id") or "").strip(), (row.get("key") or "").strip()
                if not number.isdecimal() or int(number) >= MAX_CLASSES or not 0 < len(name) <= MAX_NAME:
                    raise UserError(
                        f"{path}:{reader.line_num}: found id {number[:80]!r} and key {name[:80]!r}; allowed: columns "
                        f"id (a class number from 0) and key (its name)"
                    )
                if names.setdefault(int(number), name) != name:
                    raise UserError(f"{path}:{reader.line_num}: class {number} is {names[int(number)]!r} and {name!r}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from None
    return names


def _from_texts(texts: Mapping[int, Counter[str]]) -> dict[int, str]:
    """The text of each class, if each has only one (capitals aside; EPIC's narrations vary)."""
    names = {number: found.most_common(1)[0][0] for number, found in texts.items() if number < MAX_CLASSES}
    if any(len({plain_name(text) for text in found}) > 1 for found in texts.values()):
        return {}
    return {number: name for number, name in names.items() if 0 < len(name) <= MAX_NAME}


def _alike(target: str, names: Mapping[int, str], texts: Mapping[int, Counter[str]]) -> Iterable[str]:
    """Names that may be meant as one: `Pour` and `pour`."""
    spelled: dict[str, set[str]] = {}
    for number, name in names.items():
        spelled.setdefault(plain_name(name), set()).add(f"{name!r} (class {number})")
        alike = {text for text in texts.get(number, ()) if plain_name(text) == plain_name(name)}
        spelled[plain_name(name)] |= {f"{text!r} (class {number})" for text in alike}
    for group in spelled.values():
        if len(group) > 1:
            yield f"{target}: {listed(sorted(group), 5)} are spelled nearly alike; are they one class?"


def plain_name(name: str) -> str:
    """A name without what its writing may vary in: capitals, spaces, Unicode forms."""
    return unicodedata.normalize("NFC", " ".join(name.split())).casefold()
