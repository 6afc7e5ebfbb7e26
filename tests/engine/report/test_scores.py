"""Classes, confusions and mistakes of a scored split, counted by hand."""

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from engine.report.scores import Scores
from engine.scoring.intervals import share_interval
from engine.scoring.predictions import Predictions

SCORES = np.array(
    [[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.0, 0.1, 0.9], [0.5, 0.4, 0.1], [0.9, 0.1, 0.0]]
)
LABELS = np.array([0, 0, 0, 2, 1, -1])


@pytest.fixture
def scores() -> Scores:
    ids = [f"clip{number}" for number in range(6)]
    return Scores.of(Predictions(Path(), ids, LABELS, SCORES, ["take", "put", "cut"]))


def test_clips_without_a_label_count_for_nothing(scores: Scores) -> None:
    assert (scores.accuracy.hits, scores.accuracy.clips) == (2, 5)
    assert scores.pairs == {(0, 0): 1, (0, 1): 2, (2, 2): 1, (1, 0): 1}


def test_mistakes_come_the_surest_first_and_hits_the_least_sure_first(scores: Scores) -> None:
    assert [(clip.clip_id, clip.name, clip.said) for clip in scores.mistakes] == [
        ("clip1", "take", "put"),
        ("clip2", "take", "put"),
        ("clip4", "put", "take"),
    ]
    assert (scores.mistakes[0].probability, scores.mistakes[0].own_probability) == (0.8, 0.1)
    assert [clip.clip_id for clip in scores.hits] == ["clip0", "clip3"]


def test_classes_have_their_share_and_what_they_are_taken_for(scores: Scores) -> None:
    assert [(each.name, *each.accuracy, each.taken_for) for each in scores.classes] == [
        ("take", 1, 3, "put"),
        ("put", 0, 1, "take"),
        ("cut", 1, 1, ""),
    ]


def test_confusions_come_the_commonest_first(scores: Scores) -> None:
    assert [tuple(pair) for pair in scores.confused] == [("take", "put", 2, 2 / 3), ("put", "take", 1, 1.0)]


@pytest.mark.parametrize(("hits", "clips"), [(15, 20), (0, 10), (3, 3), (400, 512)])
def test_a_share_is_as_far_from_its_intervals_ends_as_chance_would_have_it_there(hits: int, clips: int) -> None:
    low, high = share_interval(hits, clips)
    assert 0 <= low < high <= 1
    for end in (low, high):  # Wilson's interval: the shares p with |hits / clips - p| = z sqrt(p (1 - p) / clips)
        assert (hits / clips - end) ** 2 == pytest.approx(
            NormalDist().inv_cdf(0.975) ** 2 * end * (1 - end) / clips, abs=1e-12
        )
