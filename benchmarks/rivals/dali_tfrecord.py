"""DALI's own TFRecord reader: a decoder per frame, crop, fn.stack, floats in [-1, 1]."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.rivals.base import DALI, Clips, Rival, Task, UnavailableError
from pipeline.format.streams import PLANES, ZERO_MOTION
from pipeline.views import uniform_frames

MOST_FRAMES = 1000  # with more, the names of the records' features have four digits


def define_graph(task: Task, frames: list[int]) -> Any:
    """The pipeline: rgb [T, 3, H, W] and flow [T, 2, H, W] per clip, its id, its window as shares, and its mirror."""
    from nvidia.dali import fn, tfrecord, types  # here: importing DALI takes seconds
    from nvidia.dali.pipeline import Pipeline

    split = task.split
    names = [[f"{plane}/{frame:03d}" for frame in frames] for plane in PLANES]
    features = ["clip_id", *(name for row in names for name in row)]
    pipe = Pipeline(
        batch_size=task.batch_size,
        num_threads=task.num_threads,
        device_id=None,
        seed=task.seed,
        prefetch_queue_depth=task.prefetch,
    )
    with pipe:
        records: Any = fn.readers.tfrecord(
            path=[str(path) for path in split.shard_paths],
            index_path=[str(path.with_suffix(".idx")) for path in split.shard_paths],
            features={name: tfrecord.FixedLenFeature([], tfrecord.string, "") for name in features},
            random_shuffle=True,
        )
        position = {key: fn.random.uniform(range=[0.0, 1.0]) for key in ("crop_pos_y", "crop_pos_x")}
        mirror = fn.random.coin_flip()

        def read_plane(plane: int) -> Any:
            color = types.GRAY if plane else types.RGB
            decoded = [
                fn.decoders.image_crop(records[name], output_type=color, crop=[task.crop_size] * 2, **position)
                for name in names[plane]
            ]
            layout = {"output_layout": "FCHW", "dtype": types.FLOAT}
            return fn.crop_mirror_normalize(
                fn.stack(*decoded, axis_name="F"), mean=[ZERO_MOTION], std=[ZERO_MOTION], mirror=mirror, **layout
            )

        rgb, u, v = map(read_plane, range(3))
        flow = fn.cat(u * (1 - 2 * mirror), v, axis=1)  # u is inverted by a mirror
        pipe.set_outputs(rgb, flow, records["clip_id"], *position.values(), mirror)
    pipe.build()
    return pipe


def batches(task: Task) -> Iterator[Clips]:
    """Batches for ever; clips, windows and mirrors are DALI's to draw."""
    table = task.split.table
    stored = np.diff(table.first_frame)
    if stored.min() != stored.max() or not task.num_frames <= stored.max() <= MOST_FRAMES:
        raise UnavailableError(
            f"its graph names frames, so that all clips have to store as many, from {task.num_frames} "
            f"(clip.num_frames) to {MOST_FRAMES}; found {stored.min()} to {stored.max()}"
        )
    position = {clip_id: clip for clip, clip_id in enumerate(table.clip_id.tolist())}
    pipe = define_graph(task, uniform_frames(int(stored.max()), task.num_frames).tolist())
    while True:
        rgb, flow, ids, down, right, mirror = pipe.run()
        streams = [np.array(output.as_tensor()) for output in (rgb, flow)]  # copies: DALI's memory is lent
        clips = [position[np.array(ids.at(n)).tobytes()] for n in range(len(ids))]
        room = np.stack([table.height[clips], table.width[clips]]) - task.crop_size
        shares = np.stack([np.array(share.as_tensor()).ravel() for share in (down, right)])
        anchors = np.floor(shares * room + 0.5).astype(np.int64)  # DALI rounds halves up
        windows = np.stack([*anchors, np.array(mirror.as_tensor()).ravel()], axis=1)
        seen_rgb, seen_flow = (torch.from_numpy(stream).transpose(1, 2) for stream in streams)  # [B, C, T, H, W]
        yield Clips(seen_rgb, seen_flow, torch.tensor(clips), torch.from_numpy(windows))


RIVAL = Rival("DALI readers.tfrecord", (DALI,), batches, from_extra=False)
