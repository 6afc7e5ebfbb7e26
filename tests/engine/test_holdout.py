"""What is held out: whole videos, every class on both sides, the same each time."""

import numpy as np
import pytest

from configs import UserError
from engine.holdout import Parts, hold_out


def clips(*counts: tuple[int, ...]) -> tuple[list[bytes], np.ndarray]:
    """Video ids and labels of videos with so many clips of each class."""
    videos, labels = [], []
    for video, of_class in enumerate(counts):
        for label, number in enumerate(of_class):
            videos += [f"P01_{video:02d}".encode()] * number
            labels += [label] * number
    return videos, np.array(labels)


def random_clips(seed: int) -> tuple[list[bytes], np.ndarray]:
    """Thirty videos of 1 to 40 clips, eight classes, the last of which is rare."""
    rng = np.random.default_rng(seed)
    shares = np.array([30, 25, 15, 10, 8, 6, 4, 2]) / 100
    return clips(*(tuple(rng.multinomial(rng.integers(1, 41), shares)) for _ in range(30)))


def sides(parts: Parts, videos: list[bytes]) -> list[set[bytes]]:
    return [{videos[position] for position in part} for part in parts]


@pytest.mark.parametrize("seed", range(5))
def test_a_video_is_on_one_side_and_every_class_on_both(seed: int):
    videos, labels = random_clips(seed)
    parts = hold_out(videos, labels, subset=1.0, holdout=0.2, seed=seed)
    assert sorted(np.concatenate(parts)) == list(range(len(videos)))
    train, held = sides(parts, videos)
    assert not train & held
    assert set(labels[parts.train]) == set(labels[parts.holdout]) == set(range(8))
    for label in range(4):  # the frequent ones
        assert np.mean(labels[parts.holdout] == label) == pytest.approx(np.mean(labels == label), abs=0.05)
    assert len(parts.holdout) / len(videos) == pytest.approx(0.2, abs=0.05)


def test_a_subset_has_its_share_of_every_class():
    videos, labels = clips((40, 8), (40, 8), (40, 8), (40, 8))
    parts = hold_out(videos, labels, subset=0.25, holdout=0.5, seed=0)
    used = np.concatenate(parts)
    assert np.bincount(labels[used]).tolist() == [40, 8]
    assert len(set(used)) == len(used)


def test_the_parts_follow_from_the_seed():
    videos, labels = random_clips(0)
    one, again, other = (hold_out(videos, labels, subset=0.5, holdout=0.2, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one.holdout, other.holdout)


def test_videos_are_chosen_by_what_they_hold():
    # Half of each class: the first with the last, or the two in the middle.
    videos, labels = clips((3, 1), (2, 2), (2, 2), (1, 3))
    for seed in range(5):
        _, held = sides(hold_out(videos, labels, subset=1.0, holdout=0.5, seed=seed), videos)
        assert held in ({b"P01_00", b"P01_03"}, {b"P01_01", b"P01_02"})


def test_a_class_of_one_video_cannot_be_on_both_sides_but_the_others_are():
    videos, labels = clips((4, 4, 0), (4, 4, 0), (4, 4, 2))
    parts = hold_out(videos, labels, subset=1.0, holdout=0.3, seed=0)
    assert {0, 1} <= set(labels[parts.train])
    assert {0, 1} <= set(labels[parts.holdout])


def test_one_video_alone_cannot_be_split():
    with pytest.raises(UserError, match=r"all of its 6 clips are of the video P01_00, so no video can be held out"):
        hold_out(*clips((3, 3)), subset=1.0, holdout=0.2, seed=0)
