"""Where in which epoch a loader is."""

from itertools import islice

from pipeline.batch_sampler import BatchSampler
from pipeline.sampler import BatchPlan


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
