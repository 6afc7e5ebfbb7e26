"""Which clips come next, and where in which epoch a loader is."""

from itertools import islice

import numpy as np
import pytest

from pipeline.sampler import BatchPlan, BatchSampler, balanced_order, epoch_batches, epoch_order, occurrences


def taken(num_clips: int, epoch: int = 0, position: int = 0, **sizes: int) -> list[list[int]]:
    sizes = {"batch_size": 4, "rank": 0, "world_size": 1, "train": True} | sizes
    order = epoch_order(num_clips, seed=0, epoch=epoch, train=bool(sizes["train"]))
    return [plan.clips.tolist() for plan in epoch_batches(order, epoch=epoch, position=position, **sizes)]


def test_training_epochs_are_different_permutations() -> None:
    orders = [epoch_order(50, seed=3, epoch=epoch, train=True).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_seed_and_epoch_are_not_added_up() -> None:
    assert (
        epoch_order(50, seed=0, epoch=3, train=True).tolist() != epoch_order(50, seed=3, epoch=0, train=True).tolist()
    )


LABELS = np.repeat([0, 1, 2, 3], [400, 60, 36, 4])  # 500 clips


@pytest.mark.parametrize("balance", [0.25, 0.5, 1.0])
def test_each_class_gets_its_share_of_a_balanced_epoch_and_its_clips_come_equally_often(balance: float) -> None:
    sizes = np.bincount(LABELS)
    expected = sizes ** (1 - balance) / (sizes ** (1 - balance)).sum() * len(LABELS)
    for epoch in range(5):
        order = balanced_order(LABELS, balance=balance, seed=1, epoch=epoch)
        shown = np.bincount(LABELS[order], minlength=4)
        assert np.abs(shown - expected).max() < 1
        times = np.bincount(order, minlength=len(LABELS))
        for label in range(4):
            assert np.ptp(times[label == LABELS]) <= 1
    if balance == 1:
        assert shown.tolist() == [125, 125, 125, 125]


def test_without_balance_a_balanced_order_is_a_permutation() -> None:
    order = balanced_order(LABELS, balance=0.0, seed=1, epoch=0)
    assert sorted(order.tolist()) == list(range(500))


def test_a_balanced_order_follows_from_seed_and_epoch_and_shows_all_clips_in_time() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return balanced_order(LABELS, balance=1.0, seed=seed, epoch=epoch).tolist()  # type: ignore[no-any-return]

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(*numbers)) for numbers in ((1, 2), (2, 1), (0, 3), (3, 0))}) == 4
    assert {clip for epoch in range(20) for clip in order(0, epoch)} == set(range(500))
    first = LABELS[order(0, 0)]
    assert np.abs(np.bincount(first[:250]) - 62.5).max() < 30  # classes are mixed, not one after the other


def test_occurrences_are_counted_in_order() -> None:
    assert occurrences(np.array([7, 3, 7, 7, 0, 3])).tolist() == [0, 0, 1, 2, 0, 1]
    assert occurrences(np.array([2, 0, 1])).tolist() == [0, 0, 0]


def test_ranks_share_an_epoch_without_overlap_and_see_the_steps_of_one_rank() -> None:
    single = taken(21, batch_size=4)
    ranks = [taken(21, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == single
    assert len(single) == 5  # 21 clips fill five steps of four


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("num_clips", [1, 7, 8, 25])
def test_evaluation_takes_every_clip_once_without_padding(world_size: int, num_clips: int) -> None:
    ranks = [taken(num_clips, batch_size=3, rank=r, world_size=world_size, train=False) for r in range(world_size)]
    batches = [batch for rank in ranks for batch in rank]
    assert sorted(clip for batch in batches for clip in batch) == list(range(num_clips))
    assert all(batches)


def test_a_position_goes_on_where_it_left_whatever_the_batch_size_and_ranks() -> None:
    before = taken(24, batch_size=4)[:2]
    after = [taken(24, position=8, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    clips = [clip for batch in before + after[0] + after[1] for clip in batch]
    assert sorted(clips) == list(range(24))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_views_of_clips_each_once(world_size: int) -> None:
    sizes = {"epoch": 0, "position": 0, "batch_size": 4, "world_size": world_size, "train": False, "per_clip": 6}
    plans = [plan for rank in range(world_size) for plan in epoch_batches(np.array([3, 5, 8]), rank=rank, **sizes)]
    pairs = [pair for plan in plans for pair in zip(plan.clips.tolist(), plan.view_ids.tolist(), strict=True)]
    assert sorted(pairs) == [(clip, view_index) for clip in (3, 5, 8) for view_index in range(6)]


def sampler(num_clips: int = 10, batch_size: int = 3, *, train: bool = True) -> BatchSampler:
    return BatchSampler(num_clips, batch_size, rank=0, world_size=1, seed=0, train=train)


def clips(plans: list[BatchPlan]) -> list[list[int]]:
    return [plan.clips.tolist() for plan in plans]


def test_each_run_is_the_next_epoch() -> None:
    running = sampler()
    epochs = [clips(list(iter(running))) for _ in range(3)]
    assert epochs == [clips(list(sampler().batches(epoch, 0))) for epoch in range(3)]
    assert running.epoch == 3


def test_an_epoch_left_in_the_middle_is_over() -> None:
    running = sampler()
    next(iter(running))
    assert clips(list(iter(running))) == clips(list(sampler().batches(1, 0)))


def test_seeking_goes_on_in_mid_epoch_and_then_with_the_next() -> None:
    running = sampler()
    before = list(islice(iter(running), 2))
    restored = sampler()
    restored.seek(running.epoch, running.position)
    assert clips(before + list(iter(restored))) == clips(list(sampler().batches(0, 0)))
    assert clips(list(iter(restored))) == clips(list(sampler().batches(1, 0)))


def test_the_position_at_the_end_of_an_epoch_has_nothing_left() -> None:
    running = sampler()
    for _ in iter(running):
        state = running.epoch, running.position
    restored = sampler()
    restored.seek(*state)
    assert list(iter(restored)) == []
    assert clips(list(iter(restored))) == clips(list(sampler().batches(1, 0)))


def test_batches_from_a_plan_run_over_the_end_of_the_epoch() -> None:
    last = list(sampler().batches(0, 0))[-1]
    ahead = clips(list(islice(sampler().batches_from(last), 3)))
    assert ahead == clips([last, *islice(sampler().batches(1, 0), 2)])
