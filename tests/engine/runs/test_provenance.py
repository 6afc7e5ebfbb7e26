"""Clips have the numbers that their classes had in training, by name; frames that were made otherwise are noted."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from configs import UserError
from engine.runs.provenance import adopt_classes, class_names, source_differences, trained_classes


def loader(labels: list[int], names: tuple[str, ...] | None, source: dict[str, Any] | None = None) -> Any:
    values = np.array(labels)
    return SimpleNamespace(
        split_dir="shards/test", classes={"label": names}, targets={"label": values}, labels=values, source=source
    )


def test_classes_are_matched_by_name() -> None:
    one = loader([0, 1, 2, -1], ("cut", "pour", "wash"))
    assert adopt_classes(one, {"label": ["wash", "cut", "open", "pour"]}) == 3
    assert one.labels.tolist() == one.targets["label"].tolist() == [1, 3, 0, -1]


@pytest.mark.parametrize("trained", [["cut", "pour"], ["cut", "pour", "wash"], None])
def test_the_same_names_or_none_leave_the_numbers(trained: list[str] | None) -> None:
    one = loader([0, 1], ("cut", "pour"))
    assert adopt_classes(one, {"label": trained}) == adopt_classes(one, {}) == 0
    assert one.labels.tolist() == [0, 1]


def test_a_class_that_training_did_not_have_is_refused_unless_no_clip_is_of_it() -> None:
    with pytest.raises(UserError, match=r"shards/test: clips of stir, which training did not have; .* are pour, cut;"):
        adopt_classes(loader([0, 1], ("cut", "stir")), {"label": ["pour", "cut"]})
    one = loader([0, 2], ("cut", "stir", "pour"))
    assert adopt_classes(one, {"label": ["pour", "cut"]}) == 2
    assert one.labels.tolist() == [1, 0]


def test_other_flow_is_named_with_both_values_where_both_are_known() -> None:
    made = {"version": 2, "packages": {"opencv": "4.9"}, "options": {"flow": "dis", "bound": 20.0}}
    data = {"source": made}
    assert source_differences(data, loader([0], None, made | {"packages": {"opencv": "5"}})) == []
    other = made | {"options": {"flow": "tvl1", "bound": 20.0}}
    assert source_differences(data, loader([0], None, other)) == ["options.flow: was 'dis', is 'tvl1'"]
    assert source_differences(data, loader([0], None)) == source_differences(None, loader([0], None, made)) == []


def test_damaged_or_missing_names_are_none() -> None:
    for data in (None, [], {}, {"classes": [1]}, {"classes": {"label": [1]}}, {"classes": {"label": None}}):
        assert trained_classes(data) == {}
    assert trained_classes({"classes": {"label": ["cut"]}}) == {"label": ["cut"]}


def test_a_class_without_a_name_has_its_number() -> None:
    assert class_names(("cut", "pour"), 4) == ["cut", "pour", "2", "3"]
    assert class_names(None, 2) == ["0", "1"]
