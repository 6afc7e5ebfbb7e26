"""Names of classes: where they come from, and what is said of names that may be meant as one."""

from collections import Counter
from pathlib import Path

import pytest

from common.errors import UserError
from preprocess.classes import class_names

TEXTS = {0: Counter({"pour": 3}), 2: Counter({"stir": 1})}


def names_of(folder: Path, texts: dict[int, Counter[str]], **more: object) -> tuple[str, ...] | None:
    arguments = {"target": "label", "column": "verb_class", "taken": None} | more
    return class_names(folders=[folder], texts=texts, **arguments)[0]


def test_the_text_beside_the_numbers_names_the_classes(tmp_path: Path) -> None:
    assert names_of(tmp_path, TEXTS) == ("pour", "1", "stir")  # a class that no row has keeps its number
    assert names_of(tmp_path, {}) is None


def test_a_class_with_several_texts_has_no_name_of_its_own(tmp_path: Path) -> None:
    assert names_of(tmp_path, {0: Counter({"put": 5, "put-down": 3})}) is None


@pytest.mark.parametrize("file", ["classes.csv", "verb_classes.csv", "label_classes.csv", "EPIC_100_verb_classes.csv"])
def test_a_list_beside_the_annotations_counts_more_than_their_text(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("id,key,instances,category\n0,take,\"['a', 'b']\",retrieve\n1,put,[],leave\n")
    assert names_of(tmp_path, TEXTS) == ("take", "put")


def test_a_preset_names_the_classes_that_it_takes_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id,key\n0,take\n1,put\n2,wash\n")
    assert names_of(tmp_path, {}, taken=[2, 0]) == ("wash", "take")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,name\n0,take\n", r"classes\.csv:2: found id '0' and key ''; allowed: columns id"),
        ("id,key\n-1,take\n", "found id '-1'"),
        ("id,key\n0,take\n0,put\n", "classes.csv:3: class 0 is 'take' and 'put'"),
        ("id,key\n9999999999,x\n", "found id '9999999999'"),
        ("id,key\n0,\xff\n", "cannot be read as CSV"),
    ],
)
def test_a_wrong_list_is_one_message(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "classes.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=match):
        names_of(tmp_path, {})


def test_names_that_differ_by_capitals_or_white_space_are_noted(tmp_path: Path) -> None:
    texts = {
        0: Counter({"Pour": 1}),
        1: Counter({"pour": 2}),
        2: Counter({"stir": 2, "Stir ": 1}),
        3: Counter({"cut": 1}),
    }
    names, notes = class_names("label", "verb_class", [tmp_path], texts, None)
    assert names == ("Pour", "pour", "stir", "cut")
    assert notes == [
        "label: 'Pour' (class 0), 'pour' (class 1) are spelled nearly alike; are they one class?",
        "label: 'Stir ' (class 2), 'stir' (class 2) are spelled nearly alike; are they one class?",
    ]
