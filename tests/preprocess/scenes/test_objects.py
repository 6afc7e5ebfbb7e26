"""The xor and binding tasks: what each stream shows does not tell the class, and both together do."""

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from preprocess.scenes import BINDING, TASKS, XOR
from preprocess.scenes.objects import (
    DISTANCE,
    KINDS,
    MARGIN,
    NUM_OBJECTS,
    SIDE,
    Contents,
    choose_binding,
    choose_xor,
    draw_centers,
    draw_flow,
    draw_rgb,
)
from preprocess.scenes.task import Scene, Task

SCENES = [Scene(seed=5, video=3, group=group) for group in range(12)]


def decode(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)), dtype=float)


@pytest.mark.parametrize("task", [XOR, BINDING], ids=["xor", "binding"])
def test_rgb_bytes_do_not_depend_on_the_class(task: Task):
    drawn = [task.draw([(SCENES[0], label)], 2, 1) for label in range(len(task.class_names))]
    assert all(rgb == drawn[0][0] for rgb, _ in drawn)
    assert len({tuple(flow.values()) for _, flow in drawn}) == len(task.class_names)


def test_flow_bytes_depend_on_positions_and_velocities_and_not_on_what_lies_there():
    centers = draw_centers(SCENES[0], 2)
    velocities = np.array([(70, 0), (3, 0), (0, 4), (1, 1)], float)
    one, other = (draw_flow(SCENES[0], velocities, centers) for _ in range(2))
    assert all(np.array_equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True))
    red, ring = (draw_rgb(SCENES[0], np.full(NUM_OBJECTS, kind), centers) for kind in (0, 3))
    assert not np.array_equal(red, ring)


def test_in_binding_each_position_moves_under_each_class_equally_often():
    """So whoever sees which position moves knows nothing: it and the class are independent, by random assignment."""
    pairs = Counter()
    for group in range(2000):
        contents = choose_binding(Scene(0, 0, group), label := group % 4)
        speeds = np.hypot(*contents.velocities.T)
        assert sorted(contents.kinds) == [0, 1, 2, 3]
        assert contents.kinds[speeds.argmax()] == label
        assert 50 <= speeds.max() <= 90
        assert np.sort(speeds)[-2] <= 8
        pairs[int(speeds.argmax()), label] += 1
    counts = np.array([[pairs[position, label] for label in range(4)] for position in range(4)])
    assert counts.sum() == 2000
    assert abs(counts - 125).max() < 50  # five standard deviations


def test_in_xor_the_class_is_kind_xor_direction_and_kinds_are_balanced():
    kinds = Counter()
    for group in range(400):
        contents: Contents = choose_xor(Scene(0, 0, group), label := group % 2)
        (kind,) = set(contents.kinds.tolist())
        (down,) = set((contents.velocities[:, 1] > 0).tolist())  # v points downwards
        assert kind ^ down == label
        kinds[kind] += 1
    assert 150 < kinds[0] < 250


def test_objects_keep_their_distance_and_both_streams_move_with_them():
    for scene in SCENES:
        centers = draw_centers(scene, 64).mean(axis=0)  # the jitter averages out: 1.5 / 8 pixels
        assert centers.min() > MARGIN - 1
        assert centers.max() < SIDE - MARGIN + 1
        gaps = [np.hypot(*(a - b)) for i, a in enumerate(centers) for b in centers[:i]]
        assert min(gaps) > DISTANCE - 1


def test_the_class_of_a_clip_can_be_read_off_both_streams_at_one_position():
    """A rule of thumb for binding: the kind whose colour lies where the flow is fastest."""
    right = 0
    clips = [(scene, number % 4) for number, scene in enumerate(SCENES)]
    rgb, flow = BINDING.draw(clips, 8, 1)
    for number, (_, label) in enumerate(clips):
        names = [f"frame_{number * 8 + frame + 1:010d}.jpg" for frame in range(8)]
        votes = Counter(
            _kind_that_moves(*(decode(file) for file in (rgb[n], flow[f"u/{n}"], flow[f"v/{n}"]))) for n in names
        )
        right += votes.most_common(1)[0][0] == label
    assert right >= 10  # of 12; the ground's colour deceives a rule this simple now and then


def _kind_that_moves(rgb: np.ndarray, u: np.ndarray, v: np.ndarray) -> int:
    moving = np.hypot(u - np.median(u), v - np.median(v)) > 30
    red, green, blue = rgb[moving].mean(axis=0) - rgb[~moving].mean(axis=0)
    if blue > max(red, green):
        return KINDS.index("square")
    return KINDS.index("ring" if abs(red - green) < 50 else "disc" if red > green else "diamond")


def test_every_task_deals_each_class_equally_often():
    for task in TASKS.values():
        num_clips = 3 * len(task.class_names)
        counts = Counter(label for _, label in task.deal(1, 2, num_clips))
        assert counts == dict.fromkeys(range(len(task.class_names)), 3)
