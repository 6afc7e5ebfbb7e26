"""The additive task: RGB shows the discs' pattern, flow their motion; the class is both.

Clips come in class groups: the four classes with all else alike, so in every video each RGB sequence stands under both
motions and each flow sequence under both patterns. Whoever sees one stream alone therefore misses half of the clips of
every video, at the least. Adding the streams' logits up is enough: any fusion can learn it.

The positions of the discs are drawn anew for each flow frame, so no order of RGB frames tells where a disc is going,
and the same positions serve both streams, so RGB and flow of one time agree. Patterns and motions are all such as stay
what they are in a mirror, and every crop of 64 pixels or more shows some of a disc.
"""

import itertools
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.format.streams import ZERO_MOTION
from preprocess.scenes.task import Files, LabelledScene, Scene, Task, encode, file_name

WIDTH, HEIGHT = 456, 256  # the size of EPIC's frames
APPEARANCES = ("rows", "columns")  # stripes that lie, stripes that stand
MOTIONS = ("rise", "sink")
CLASSES = tuple(itertools.product(range(len(APPEARANCES)), range(len(MOTIONS))))  # label -> (appearance, motion)
CLASS_NAMES = tuple(f"{MOTIONS[motion]}-{APPEARANCES[appearance]}" for appearance, motion in CLASSES)

GRID_ROWS, GRID_COLUMNS = 4, 8  # one disc in each cell of 64 x 57 pixels
CELL_HEIGHT, CELL_WIDTH = HEIGHT // GRID_ROWS, WIDTH // GRID_COLUMNS
ROW_IN_CELL = np.arange(CELL_HEIGHT, dtype=np.float32).reshape(1, CELL_HEIGHT, 1, 1)
COLUMN_IN_CELL = np.arange(CELL_WIDTH, dtype=np.float32).reshape(1, 1, 1, CELL_WIDTH)
PER_DISC = (GRID_ROWS, 1, GRID_COLUMNS, 1)  # broadcasts over a frame seen as [rows, CELL_HEIGHT, columns, CELL_WIDTH]

EDGE = 6.0  # pixels over which a disc fades into its surroundings: small JPEGs
JPEG_QUALITY = 60
# Which random stream a draw comes from: RGB, flow and positions know nothing of each other.
RGB, FLOW, POSITIONS, SURROUNDINGS = range(4)


def deal(seed: int, video: int, num_clips: int) -> list[LabelledScene]:
    """Groups of clips that share all but the class, in a random order."""
    clips = [(Scene(seed, video, i // len(CLASSES)), i % len(CLASSES)) for i in range(num_clips)]
    order = np.random.default_rng((seed, video, 0)).permutation(len(clips))
    return [clips[position] for position in order]


def draw_video(clips: Sequence[LabelledScene], length: int, stride: int) -> tuple[Files, Files]:
    """Draw clips one after the other; see task.Draw."""
    num_flow = length // stride

    @cache  # a class group needs each pattern and each motion twice
    def rgb_of(scene: Scene, appearance: int, frame: int) -> bytes:
        return encode(draw_rgb(scene, appearance, frame, frame // stride), JPEG_QUALITY)

    @cache
    def flow_of(scene: Scene, motion: int, frame: int) -> list[bytes]:
        return [encode(plane, JPEG_QUALITY) for plane in draw_flow(scene, motion, frame)]

    rgb: Files = {}
    flow: Files = {}
    for position, (scene, label) in enumerate(clips):
        appearance, motion = CLASSES[label]
        for frame in range(length):
            rgb[file_name(position * length + frame)] = rgb_of(scene, appearance, frame)
        for frame in range(num_flow):
            name = file_name(position * num_flow + frame)
            flow[f"u/{name}"], flow[f"v/{name}"] = flow_of(scene, motion, frame)
    return rgb, flow


def draw_rgb(scene: Scene, appearance: int, frame: int, flow_frame: int) -> NDArray[np.uint8]:
    """RGB frame `frame` of a clip, beside flow frame `flow_frame`: [HEIGHT, WIDTH, 3]."""
    rng = scene.rng(RGB, frame)
    period = rng.uniform(9, 14, PER_DISC).astype(np.float32)
    phase = rng.uniform(0, 1, PER_DISC).astype(np.float32)
    along = ROW_IN_CELL if APPEARANCES[appearance] == "rows" else COLUMN_IN_CELL
    stripes = np.sin(2 * np.pi * (along / period + phase))[..., None]  # [4, 64 or 1, 8, 57 or 1, 1]
    color = rng.uniform(85, 170, (*PER_DISC, 3)).astype(np.float32)
    contrast = rng.uniform(60, 85, (*PER_DISC, 1)).astype(np.float32)
    inside = disc_masks(scene, flow_frame)[..., None]
    around = _background(scene).reshape(GRID_ROWS, CELL_HEIGHT, GRID_COLUMNS, CELL_WIDTH, 3)
    image = around + inside * (color + contrast * stripes - around)
    return np.asarray(image.clip(0, 255).astype(np.uint8).reshape(HEIGHT, WIDTH, 3))


def draw_flow(scene: Scene, motion: int, frame: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Flow frame `frame`: u and v, each [HEIGHT, WIDTH], zero at 127.5, v downwards."""
    rng = scene.rng(FLOW, frame)
    sideways = rng.uniform(-60, 60, PER_DISC)
    upright = rng.uniform(50, 90, PER_DISC) * (-1 if MOTIONS[motion] == "rise" else 1)
    camera = rng.uniform(-8, 8, 2)
    inside = disc_masks(scene, frame)
    u, v = (
        (inside * velocity + ZERO_MOTION + drift).round().astype(np.uint8).reshape(HEIGHT, WIDTH)
        for velocity, drift in zip((sideways, upright), camera, strict=True)
    )
    return u, v


def disc_masks(scene: Scene, flow_frame: int) -> NDArray[np.float32]:
    """Masks of the discs, 1 inside to 0 outside: [rows, CELL_HEIGHT, columns, CELL_WIDTH]."""
    rng = scene.rng(POSITIONS, flow_frame)
    radius = rng.uniform(19, 27, PER_DISC)
    row, column = rng.uniform(radius, CELL_HEIGHT - radius), rng.uniform(radius, CELL_WIDTH - radius)
    distance = np.sqrt((ROW_IN_CELL - row) ** 2 + (COLUMN_IN_CELL - column) ** 2)
    return np.asarray(((radius - distance) / EDGE).clip(0, 1), dtype=np.float32)


@lru_cache(maxsize=16)
def _background(scene: Scene) -> NDArray[np.float32]:
    """A soft pattern in the colours of the video: [HEIGHT, WIDTH, 3]."""
    video_color = np.random.default_rng((scene.seed, scene.video)).uniform(60, 200, 3)
    spots = video_color + scene.rng(SURROUNDINGS, 0).normal(0, 30, (GRID_ROWS, GRID_COLUMNS, 3))
    coarse = Image.fromarray(spots.clip(0, 255).astype(np.uint8))
    return np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR), dtype=np.float32)


ADDITIVE = Task(
    class_names=CLASS_NAMES,
    videos=(8, 2, 3),
    clips=16,
    frames=16,
    strides=(2, 1),
    one_stream=0.5,
    deal=deal,
    draw=draw_video,
)
