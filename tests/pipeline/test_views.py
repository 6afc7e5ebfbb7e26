"""How a clip is seen: its window, frames, mirror and colours."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.views import MultiView, View, ViewOptions, draw_view, jittered_frames, uniform_frames

OPTIONS = ViewOptions(num_frames=8, crop_size=56)


def view(clip: int = 0, options: ViewOptions = OPTIONS, *, seed: int = 0, epoch: int = 0, **changes: int) -> View:
    shape = {"num_stored": 16, "height": 64, "width": 96} | changes
    return draw_view(clip, options, seed=seed, epoch=epoch, train=True, **shape)


def window_of(seen: View) -> tuple[int, int, int, bool]:
    return seen.top, seen.left, seen.side, seen.mirror


def draws(*key: int) -> list[float]:
    """15 numbers in [0, 1) of NumPy's PCG64 for a key: the highest 53 bits of each word."""
    words = np.random.PCG64(np.random.SeedSequence(key)).random_raw(15).tolist()
    return [(word >> 11) * 2.0**-53 for word in words]


@pytest.mark.parametrize(("view_index", "drawn"), [(0, (5,)), (2, (5, 2))])
def test_a_view_is_made_of_the_draws_of_its_key(view_index: int, drawn: tuple[int, ...]) -> None:
    options = ViewOptions(8, 56, "jitter", mirror=0.5, scale=(0.5, 1.0), color=0.4)
    of_key = {"num_stored": 40, "height": 64, "width": 96, "seed": 3, "epoch": 7, "view_index": view_index}

    def expected_window(scale: float, down: float, right: float, mirror: float) -> tuple[int, int, int, bool]:
        side = round(64 * (0.5 + 0.5 * scale))
        return int(down * (64 - side + 1)), int(right * (96 - side + 1)), side, mirror < 0.5

    seen = draw_view(5, options, train=True, **of_key)
    numbers = draws(3, 7, 2, *drawn)
    assert window_of(seen) == expected_window(*numbers[:4])
    assert seen.color == pytest.approx([0.6 + 0.8 * draw for draw in numbers[4:7]])
    assert seen.frames.tolist() == [int(5 * (part + draw)) for part, draw in enumerate(numbers[7:])]
    apart = draw_view(5, replace(options, synchronized=False), train=True, stream=1, **of_key)
    assert window_of(apart) == expected_window(*draws(3, 7, 3, 1, *drawn)[:4])
    assert apart.frames.tolist() == seen.frames.tolist()


def test_a_clip_that_comes_again_in_an_epoch_is_seen_otherwise() -> None:
    def seen(number: int) -> View:
        return draw_view(3, OPTIONS, seed=0, epoch=0, train=True, num_stored=16, height=64, width=96, view_index=number)

    assert len({window_of(seen(number)) for number in range(4)}) == 4
    assert window_of(seen(0)) == window_of(view(3))


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
