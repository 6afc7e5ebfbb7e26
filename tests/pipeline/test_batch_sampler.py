"""Where in which epoch a loader is."""

from itertools import islice

from pipeline.batch_sampler import Schedule
from pipeline.sampler import Slot


def schedule(num_clips: int = 10, batch_size: int = 3, *, train: bool = True) -> Schedule:
    return Schedule(num_clips, batch_size, rank=0, world_size=1, seed=0, train=train)


def clips(slots: list[Slot]) -> list[list[int]]:
    return [slot.clips.tolist() for slot in slots]


def test_each_run_is_the_next_epoch() -> None:
    running = schedule()
    epochs = [clips(list(running.run_epoch())) for _ in range(3)]
    assert epochs == [clips(list(schedule().slots(epoch, 0))) for epoch in range(3)]
    assert running.epoch == 3


def test_an_epoch_left_in_the_middle_is_over() -> None:
    running = schedule()
    next(running.run_epoch())
    assert clips(list(running.run_epoch())) == clips(list(schedule().slots(1, 0)))


def test_moving_goes_on_in_mid_epoch_and_then_with_the_next() -> None:
    running = schedule()
    before = list(islice(running.run_epoch(), 2))
    restored = schedule()
    restored.move(running.epoch, running.position)
    assert clips(before + list(restored.run_epoch())) == clips(list(schedule().slots(0, 0)))
    assert clips(list(restored.run_epoch())) == clips(list(schedule().slots(1, 0)))


def test_the_position_at_the_end_of_an_epoch_has_nothing_left() -> None:
    running = schedule()
    for _ in running.run_epoch():
        state = running.epoch, running.position
    restored = schedule()
    restored.move(*state)
    assert list(restored.run_epoch()) == []
    assert clips(list(restored.run_epoch())) == clips(list(schedule().slots(1, 0)))


def test_slots_from_run_over_the_end_of_the_epoch() -> None:
    last = list(schedule().slots(0, 0))[-1]
    ahead = clips(list(islice(schedule().slots_from(last), 3)))
    assert ahead == clips([last, *islice(schedule().slots(1, 0), 2)])
