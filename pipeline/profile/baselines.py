"""Baselines: other ways of loading the same clips, written well, to measure beside the loader."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.format.split import Split
from pipeline.format.streams import PLANES, ZERO_MOTION
from pipeline.reader import ClipReader, EncodedFrame

Decode = Callable[[Sequence[EncodedFrame], bool, int, int, int, bool], Tensor]  # files, gray, top, left, crop, mirror
Pair = tuple[Tensor, Tensor, int]


class DecodedClips(Dataset[Pair]):
    """A map-style data set of the shards' clip pairs, with the loader's crop and mirror per clip."""

    def __init__(self, split: Split, num_frames: int, crop_size: int, decode: Decode) -> None:
        self.table, self.labels = split.table, split.labels
        self.num_frames, self.crop_size, self.decode = num_frames, crop_size, decode
        self.reader = ClipReader(split, ("rgb", "flow"))

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, clip: int) -> Pair:
        """One clip: rgb [3, T, H, W], flow [2, T, H, W], label."""
        rows = self.table.frames(clip)
        frames = np.linspace(0, rows.stop - rows.start - 1, self.num_frames).astype(np.int64)
        files = self.reader.read(clip, frames)
        size = self.crop_size
        top = int(torch.randint(int(self.table.height[clip]) - size + 1, ()))
        left = int(torch.randint(int(self.table.width[clip]) - size + 1, ()))
        mirror = bool(torch.rand(()) < 0.5)
        rgb = self.decode(files["rgb"][0], False, top, left, size, mirror)  # [T, 3, H, W]
        u, v = (self.decode(plane, True, top, left, size, mirror) for plane in files["flow"])  # [T, 1, H, W]
        if mirror:
            u = -u if u.is_floating_point() else 255 - u
        return rgb.transpose(0, 1), torch.cat([u, v], dim=1).transpose(0, 1), int(self.labels[clip])


def dataloader_batches(data: Dataset[Pair], *, batch_size: int, num_workers: int, prefetch: int) -> Iterator[int]:
    """Batches by worker processes, epoch after epoch; yields the number of clips of each."""
    loader = DataLoader(
        data,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        prefetch_factor=prefetch,
        persistent_workers=True,
        worker_init_fn=_one_thread,
    )
    while True:
        for rgb, _, _ in loader:
            yield len(rgb)


def tfrecord_batches(
    split: Split, *, batch_size: int, num_frames: int, crop_size: int, num_threads: int
) -> Iterator[int]:
    """Batches by DALI's TFRecord reader: a decoder per frame, crop, fn.stack, floats in [-1, 1].

    Yields the number of clips of each batch, epoch after epoch.
    """
    from nvidia.dali import fn, tfrecord, types  # here: importing DALI takes seconds
    from nvidia.dali.pipeline import Pipeline

    names = [[f"{plane}/{frame:03d}" for frame in range(num_frames)] for plane in PLANES]
    pipe = Pipeline(batch_size=batch_size, num_threads=num_threads, device_id=None, seed=0, prefetch_queue_depth=2)
    with pipe:
        records: Any = fn.readers.tfrecord(
            path=[str(path) for path in split.shard_paths],
            index_path=[str(path.with_suffix(".idx")) for path in split.shard_paths],
            features={name: tfrecord.FixedLenFeature([], tfrecord.string, "") for row in names for name in row},
            random_shuffle=True,
        )
        position = {key: fn.random.uniform(range=[0.0, 1.0]) for key in ("crop_pos_x", "crop_pos_y")}
        mirror = fn.random.coin_flip()

        def read_plane(plane: int) -> Any:
            color = types.GRAY if plane else types.RGB
            frames = [
                fn.decoders.image_crop(records[name], output_type=color, crop=[crop_size] * 2, **position)
                for name in names[plane]
            ]
            layout = {"output_layout": "FCHW", "dtype": types.FLOAT}
            return fn.crop_mirror_normalize(
                fn.stack(*frames, axis_name="F"), mean=[ZERO_MOTION], std=[ZERO_MOTION], mirror=mirror, **layout
            )

        rgb, u, v = map(read_plane, range(3))
        pipe.set_outputs(rgb, fn.cat(u * (1 - 2 * mirror), v, axis=1))  # u is inverted by a mirror
    pipe.build()
    while True:
        rgb, flow = pipe.run()
        pair = [torch.from_numpy(np.array(output.as_tensor())) for output in (rgb, flow)]  # DALI's memory is lent
        yield len(pair[0])


def decode_opencv(files: Sequence[EncodedFrame], gray: bool, top: int, left: int, size: int, mirror: bool) -> Tensor:
    """Whole frames by OpenCV, then crop, mirror and floats in [-1, 1], as published: [T, C, H, W]."""
    images: list[NDArray[Any]] = []
    for file in files:
        image = np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR))
        image = np.atleast_3d(image)[top : top + size, left : left + size, ::-1]  # BGR to RGB
        images.append(image[:, ::-1] if mirror else image)
    frames = np.stack(images).transpose(0, 3, 1, 2)
    return torch.from_numpy(frames.astype(np.float32) / 127.5 - 1)


def decode_torchvision(
    files: Sequence[EncodedFrame], gray: bool, top: int, left: int, size: int, mirror: bool
) -> Tensor:
    """Whole frames by torchvision's decode_jpeg, then crop and mirror, uint8 [T, C, H, W]."""
    from torchvision.io import ImageReadMode, decode_jpeg

    mode = ImageReadMode.GRAY if gray else ImageReadMode.RGB
    encoded: Sequence[Tensor] = [torch.from_numpy(np.array(file)) for file in files]
    frames = torch.stack([decode_jpeg(data, mode)[:, top : top + size, left : left + size] for data in encoded])
    return frames.flip(-1) if mirror else frames


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
