"""The xor and binding tasks: objects in RGB, blobs of motion in flow, at one position.

xor: four objects of one kind, a disc or a square, all move up or down; the class is kind XOR direction. Each stream
alone is at chance, and so are additive logits: what is needed is an interaction of two global features.

binding: four different objects lie anywhere and one of them moves; the class is which. RGB shows which is where and not
what moves; flow shows where something moves (a round blob, whatever the object's shape) and not what is there. Each
stream alone is at chance, and by symmetry under renaming the objects the cross-entropy optimum among additive logits
f(rgb) + g(flow) is uniform: what is needed is that the streams meet at the same position.

All but the class is drawn anew for each clip, RGB and flow from random streams of their own.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.format.streams import ZERO_MOTION
from preprocess.scenes.task import Files, LabelledScene, Scene, Task, encode, file_name

SIDE = 80  # pixels, height and width of a frame
NUM_OBJECTS = 4
KINDS = ("disc", "square", "diamond", "ring")
COLORS = np.array([(220, 40, 40), (40, 60, 220), (40, 190, 60), (220, 200, 40)], np.float32)  # of KINDS, RGB levels
MARGIN, DISTANCE = 14, 19  # pixels: of centres from the edge, and from one another
RADIUS, BLOB_RADIUS = (7, 9), (8, 11)  # pixels: of objects, and of the motion that flow shows in their place
JITTER = 1.5  # pixels, standard deviation of a centre in each frame
FAST, SLOW = (50, 90), (0, 8)  # levels of flow: of what moves, and of what does not
CAMERA, NOISE = 6, 4  # levels of flow, standard deviations: of all pixels together; white, and in soft spots
RGB_QUALITY, FLOW_QUALITY = 90, 95

# What a random stream is for. RGB and flow share LAYOUT alone, which says where things lie and not what they are.
LAYOUT, IDENTITY, RGB, FLOW, VELOCITY = range(1, 6)

Image32 = NDArray[np.float32]


@dataclass(frozen=True)
class Contents:
    """What lies in a clip, and how it moves."""

    kinds: NDArray[np.int64]  # [NUM_OBJECTS], positions in KINDS
    velocities: NDArray[np.float64]  # [NUM_OBJECTS, 2], levels of u and v


Choose = Callable[[Scene, int], Contents]


def choose_xor(scene: Scene, label: int) -> Contents:
    """Discs (0) or squares (1) that all move up (0) or down (1); `label` is the XOR."""
    kind = int(scene.rng(IDENTITY).integers(2))
    rng = scene.rng(VELOCITY)
    sideways, upright = rng.uniform(-20, 20, NUM_OBJECTS), rng.uniform(*FAST, NUM_OBJECTS)
    return Contents(np.full(NUM_OBJECTS, kind), np.stack([sideways, upright if kind ^ label else -upright], axis=1))


def choose_binding(scene: Scene, label: int) -> Contents:
    """One object of each kind; that of kind `label` moves in some direction, the others hardly."""
    kinds = scene.rng(IDENTITY).permutation(len(KINDS))
    rng = scene.rng(VELOCITY)
    mover = int(np.flatnonzero(kinds == label)[0])
    speed = np.where(np.arange(NUM_OBJECTS) == mover, rng.uniform(*FAST), rng.uniform(*SLOW, NUM_OBJECTS))
    angle = rng.uniform(0, 2 * np.pi, NUM_OBJECTS)
    return Contents(kinds, speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def deal(num_classes: int, seed: int, video: int, num_clips: int) -> list[LabelledScene]:
    """A scene for every clip, each class equally often, in a random order."""
    labels = np.random.default_rng((seed, video, 0)).permutation(np.arange(num_clips) % num_classes)
    return [(Scene(seed, video, number), label) for number, label in enumerate(labels.tolist())]


def draw_video(choose: Choose, clips: Sequence[LabelledScene], length: int, stride: int) -> tuple[Files, Files]:
    """Draw clips one after the other; see task.Draw."""
    rgb: Files = {}
    flow: Files = {}
    num_flow = length // stride
    for position, (scene, label) in enumerate(clips):
        contents, centers = choose(scene, label), draw_centers(scene, num_flow)
        for number, frame in enumerate(draw_rgb(scene, contents.kinds, centers.repeat(stride, axis=0))):
            rgb[file_name(position * length + number)] = encode(frame, RGB_QUALITY)
        for number, planes in enumerate(draw_flow(scene, contents.velocities, centers)):
            for plane, levels in zip("uv", planes, strict=True):
                flow[f"{plane}/{file_name(position * num_flow + number)}"] = encode(levels, FLOW_QUALITY)
    return rgb, flow


def draw_centers(scene: Scene, num_frames: int) -> NDArray[np.float64]:
    """The objects' centres (x, y) in pixels in each frame, float [num_frames, NUM_OBJECTS, 2]."""
    rng = scene.rng(LAYOUT)
    while True:
        centers = rng.uniform(MARGIN, SIDE - MARGIN, (NUM_OBJECTS, 2))
        if all(np.hypot(*(a - b)) >= DISTANCE for a, b in itertools.combinations(centers, 2)):
            return centers + rng.normal(0, JITTER, (num_frames, NUM_OBJECTS, 2))


def draw_rgb(scene: Scene, kinds: NDArray[np.int64], centers: NDArray[np.float64]) -> list[NDArray[np.uint8]]:
    """RGB frames of a clip, each [SIDE, SIDE, 3]: striped objects on a soft, noisy ground."""
    rng = scene.rng(RGB)
    ground = _soft(rng, np.full(3, rng.uniform(70, 185)), 25)
    colors = COLORS[kinds] + rng.normal(0, 18, (NUM_OBJECTS, 3))
    radii, angles = rng.uniform(*RADIUS, NUM_OBJECTS), rng.uniform(0, np.pi, NUM_OBJECTS)
    periods, phases = rng.uniform(4, 7, NUM_OBJECTS), rng.uniform(0, 2 * np.pi, NUM_OBJECTS)
    frames = []
    for frame_centers in centers:
        frame = ground.copy()
        for kind, (x, y), color, radius, angle, period, phase in zip(
            kinds.tolist(), frame_centers, colors, radii, angles, periods, phases, strict=True
        ):
            patch, columns, rows = _patch(frame, x, y)
            stripes = 25 * np.sin(2 * np.pi * (columns * np.cos(angle) + rows * np.sin(angle)) / period + phase)
            patch += _inside(KINDS[kind], columns, rows, radius)[..., None] * (color + stripes[..., None] - patch)
        frames.append(_levels(frame + _noise(rng, 10, frame.shape)))
    return frames


def draw_flow(
    scene: Scene, velocities: NDArray[np.float64], centers: NDArray[np.float64]
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Flow frames of a clip, u and v [SIDE, SIDE]: a round blob per object, camera jitter."""
    rng = scene.rng(FLOW)
    radii = rng.uniform(*BLOB_RADIUS, NUM_OBJECTS)
    frames = []
    for frame_centers in centers:
        motion = _soft(rng, ZERO_MOTION + rng.normal(0, CAMERA, 2), NOISE) + _noise(rng, NOISE, (SIDE, SIDE, 2))
        for (x, y), radius, velocity in zip(frame_centers, radii, velocities, strict=True):
            patch, columns, rows = _patch(motion, x, y)
            patch += _inside("disc", columns, rows, radius)[..., None] * velocity
        u, v = _levels(motion[..., 0]), _levels(motion[..., 1])
        frames.append((u, v))
    return frames


def _patch(frame: Image32, x: float, y: float) -> tuple[Image32, Image32, Image32]:
    """View of the part of a frame [H, W, C] about (x, y), and where its pixels lie from there."""
    reach = max(*RADIUS, *BLOB_RADIUS) * 1.25 + 2
    left, top, right, bottom = (int(edge) for edge in np.clip((x - reach, y - reach, x + reach, y + reach), 0, SIDE))
    columns, rows = np.arange(left, right, dtype=np.float32) - x, np.arange(top, bottom, dtype=np.float32) - y
    return frame[top:bottom, left:right], columns[None], rows[:, None]


def _inside(kind: str, x: Image32, y: Image32, radius: float) -> Image32:
    """Coverage of each pixel by a shape about (0, 0), 0 to 1; shapes are of similar size."""
    if kind == "square":
        depth = 0.89 * radius - np.maximum(np.abs(x), np.abs(y))
    elif kind == "diamond":
        depth = (1.25 * radius - np.abs(x) - np.abs(y)) / np.sqrt(2)
    else:
        distance = np.hypot(x, y)
        depth = radius - distance if kind == "disc" else np.minimum(1.15 * radius - distance, distance - 0.5 * radius)
    return np.asarray((depth + 0.5).clip(0, 1), np.float32)


def _soft(rng: np.random.Generator, mean: NDArray[np.float64], deviation: float) -> Image32:
    """Soft spots, [SIDE, SIDE, C] for a `mean` [C]: a coarse grid of normal values, enlarged."""
    spots = rng.normal(mean, deviation, (5, 5, len(mean))).astype(np.float32)
    planes = [
        Image.fromarray(plane).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for plane in spots.transpose(2, 0, 1)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def _noise(rng: np.random.Generator, deviation: float, shape: tuple[int, ...]) -> Image32:
    return np.asarray(deviation * rng.standard_normal(shape, np.float32), np.float32)


def _levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.asarray(values.round().clip(0, 255).astype(np.uint8))


def _task(class_names: tuple[str, ...], choose: Choose) -> Task:
    return Task(
        class_names=class_names,
        videos=(8, 2, 8),
        clips=64,
        frames=8,
        strides=(1, 1),
        one_stream=1 / len(class_names),
        deal=partial(deal, len(class_names)),
        draw=partial(draw_video, choose),
    )


XOR = _task(("disc-up-or-square-down", "disc-down-or-square-up"), choose_xor)
BINDING = _task(KINDS, choose_binding)
