"""Which clips come next and how each is seen."""

import numpy as np
import pytest

from pipeline.sampler import (
    MultiView,
    View,
    ViewOptions,
    balanced_order,
    draw_view,
    epoch_batches,
    epoch_order,
    jittered_frames,
    occurrences,
    uniform_frames,
)

OPTIONS = ViewOptions(num_frames=8, crop_size=56)


def view(clip: int = 0, options: ViewOptions = OPTIONS, *, seed: int = 0, epoch: int = 0, **changes: int) -> View:
    shape = {"num_stored": 16, "height": 64, "width": 96} | changes
    return draw_view(clip, options, seed=seed, epoch=epoch, train=True, **shape)


def window_of(seen: View) -> tuple[int, int, int, bool]:
    return seen.top, seen.left, seen.side, seen.mirror


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


def test_a_clip_that_comes_again_in_an_epoch_is_seen_otherwise() -> None:
    def seen(number: int) -> View:
        return draw_view(3, OPTIONS, seed=0, epoch=0, train=True, num_stored=16, height=64, width=96, view_index=number)

    assert len({window_of(seen(number)) for number in range(4)}) == 4
    assert window_of(seen(0)) == window_of(view(3))


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


def test_a_view_depends_on_seed_epoch_and_clip_alone() -> None:
    assert window_of(view(5)) == window_of(view(5))
    assert len({window_of(each) for each in (view(5), view(6), view(5, seed=1), view(5, epoch=1))}) == 4


def test_an_option_changes_what_it_names_and_nothing_else() -> None:
    plain = view(3)
    jittered = view(3, ViewOptions(8, 56, temporal="jitter", color=0.4))
    assert window_of(plain) == window_of(jittered)
    assert plain.color == (1.0, 1.0, 1.0)
    assert all(0.6 <= factor <= 1.4 for factor in jittered.color)
    assert len(set(jittered.color)) == 3


def test_crops_reach_every_position_and_stay_inside() -> None:
    views = [view(clip) for clip in range(2000)]
    assert {v.top for v in views} == set(range(64 - 56 + 1))
    assert {v.left for v in views} == set(range(96 - 56 + 1))
    assert {v.side for v in views} == {56}


def test_mirror_probability() -> None:
    share = np.mean([view(clip, ViewOptions(8, 56, mirror=0.25)).mirror for clip in range(4000)])
    assert abs(share - 0.25) < 0.03  # four standard deviations
    assert not any(view(clip, ViewOptions(8, 56, mirror=0.0)).mirror for clip in range(100))
    assert all(view(clip, ViewOptions(8, 56, mirror=1.0)).mirror for clip in range(100))


def test_scale_draws_the_side_from_the_short_side() -> None:
    sides = [view(clip, ViewOptions(8, 56, scale=(0.5, 1.0))).side for clip in range(2000)]
    assert min(sides) == 32
    assert max(sides) == 64


def test_a_frame_smaller_than_the_crop_gives_its_largest_square() -> None:
    small = view(0, height=40, width=96)
    assert (small.top, small.side) == (0, 40)
    assert 0 <= small.left <= 56


def test_evaluation_is_a_centre_crop() -> None:
    centre = evaluated(ViewOptions(8, 56, "jitter", mirror=1.0, color=0.9))
    assert (centre.top, centre.left, centre.side, centre.mirror) == (4, 20, 56, False)
    assert centre.color == (1.0, 1.0, 1.0)
    assert centre.frames.tolist() == [0, 2, 4, 6, 8, 10, 12, 15]  # linspace(0, 15, 8) = 0, 2.14, 4.29, ... truncated


def test_evaluation_takes_the_middle_of_the_scale() -> None:
    centre = evaluated(ViewOptions(8, 56, scale=(0.5, 1.0)))
    assert (centre.top, centre.left, centre.side) == (8, 24, 48)


def evaluated(options: ViewOptions) -> View:
    return draw_view(7, options, num_stored=16, height=64, width=96, seed=9, epoch=4, train=False)


def views_of(multi_view: MultiView, num_stored: int = 16, height: int = 64, width: int = 96) -> list[View]:
    shape = {"num_stored": num_stored, "height": height, "width": width, "seed": 0, "epoch": 0, "train": False}
    return [
        draw_view(7, OPTIONS, **shape, multi_view=multi_view, view_index=view_index)
        for view_index in range(multi_view.per_clip)
    ]


def test_views_deal_out_the_stored_frames_in_turn() -> None:
    views = views_of(MultiView(num_temporal=5), num_stored=40)  # 5 x 8 = 40: each stored frame once
    assert [v.frames.tolist() for v in views] == [list(range(first, 40, 5)) for first in range(5)]
    assert [v.view_index for v in views] == list(range(5))


def test_views_of_fewer_frames_than_asked_for_are_in_order_and_inside() -> None:
    for v in views_of(MultiView(num_temporal=10), num_stored=5):
        assert len(v.frames) == 8
        assert (np.diff(v.frames) >= 0).all()
        assert {v.frames[0], v.frames[-1]} <= {0, 3, 4}


@pytest.mark.parametrize(
    ("height", "width", "corners"),
    [(64, 96, [(4, 0), (4, 20), (4, 40)]), (96, 64, [(0, 4), (20, 4), (40, 4)]), (56, 56, [(0, 0)] * 3)],
)
def test_crops_lie_at_both_ends_and_the_middle_of_the_longer_side(
    height: int, width: int, corners: list[tuple[int, int]]
) -> None:
    assert [(v.top, v.left) for v in views_of(MultiView(num_spatial=3), height=height, width=width)] == corners


def test_every_view_is_seen_through_every_crop() -> None:
    both = views_of(MultiView(num_temporal=2, num_spatial=3), num_stored=40)
    times = [v.frames.tolist() for v in views_of(MultiView(num_temporal=2), num_stored=40)]
    lefts = [v.left for v in views_of(MultiView(num_spatial=3), num_stored=40)]
    assert [(v.frames.tolist(), v.left) for v in both] == [(time, left) for time in times for left in lefts]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_views_of_clips_each_once(world_size: int) -> None:
    sizes = {"epoch": 0, "position": 0, "batch_size": 4, "world_size": world_size, "train": False, "per_clip": 6}
    plans = [plan for rank in range(world_size) for plan in epoch_batches(np.array([3, 5, 8]), rank=rank, **sizes)]
    pairs = [pair for plan in plans for pair in zip(plan.clips.tolist(), plan.view_ids.tolist(), strict=True)]
    assert sorted(pairs) == [(clip, view_index) for clip in (3, 5, 8) for view_index in range(6)]


def test_uniform_frames_are_those_of_the_published_code() -> None:
    assert uniform_frames(16, 16).tolist() == list(range(16))
    assert uniform_frames(5, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 4]


def test_jitter_takes_one_frame_of_each_equal_part() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([jittered_frames(40, rng.random(8)) for _ in range(500)])
    assert (drawn // 5 == np.arange(8)).all()  # eight parts of five frames
    assert set(drawn[:, 3].tolist()) == {15, 16, 17, 18, 19}


def test_jitter_of_fewer_frames_than_asked_for_repeats_them_in_order() -> None:
    drawn = jittered_frames(5, np.full(8, 0.999))
    assert drawn.tolist() == [0, 1, 1, 2, 3, 3, 4, 4]
