"""Clips of a page: RGB beside flow, their frames one below the other in one image, which the page runs through."""

import base64
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from configs.schema import Config
from pipeline.format.split import open_split
from pipeline.inspect.flow_colours import FlowColours, Frames, pixels_per_level
from pipeline.loader import ClipLoader

FRAMES = 8  # of a clip that are shown
SIDE = 112  # pixels that a frame is shown with at most
GAP = 2  # pixels between the streams
QUALITY = 60  # of the WebP image
BATCH = 8  # clips that are decoded together


class Strip(NamedTuple):
    """Frames of a clip, one below the other; RGB at the left of flow."""

    url: str  # data:...
    frames: int
    width: int  # pixels of a frame, both streams together
    height: int
    flow_scale: str  # what full colour means; "" without flow


def draw_strips(config: Config, split: str, clip_ids: Sequence[str]) -> dict[str, Strip]:
    """Draw the clips, as evaluation sees them (centre crop), by their ids.

    Raises:
        UserError: the shards are gone or damaged, or hold other clips.
    """
    streams = tuple(open_split(config.data.shards / split, split).streams)
    options = {"batch_size": BATCH, "device": "cpu", "decoder": "turbojpeg", "prefetch": 1, "streams": streams}
    with ClipLoader.from_config(config, split, train=False, **options) as loader:
        position = {clip_id: number for number, clip_id in enumerate(loader.clip_ids)}
        clips = [position[clip_id] for clip_id in dict.fromkeys(clip_ids) if clip_id in position]
        return {loader.clip_ids[clip]: strip for clip, strip in zip(clips, _strips(loader, clips), strict=True)}


def _strips(loader: ClipLoader, clips: Sequence[int]) -> Iterator[Strip]:
    for begin in range(0, len(clips), BATCH):
        batch = loader.load(clips[begin : begin + BATCH], 0)
        for position, view in enumerate(batch.views):
            frames, scale = [], ""
            if batch.rgb is not None:
                frames.append(batch.rgb[position].permute(1, 2, 3, 0).numpy())
            if batch.flow is not None:
                flow = batch.flow[position].numpy()
                colours = FlowColours.of(flow)
                frames.append(colours.paint(*flow))
                scale = colours.scale_text(pixels_per_level(loader.source, loader.table.video_id[view.clip].decode()))
            yield draw_strip(frames, scale)


def draw_strip(streams: Sequence[Frames], flow_scale: str = "") -> Strip:
    """Draw a clip's `streams`, uint8 [T, H, W, 3] each, beside one another; `flow_scale` is what full colour means."""
    chosen = np.linspace(0, len(streams[0]) - 1, min(FRAMES, len(streams[0]))).round().astype(int)
    shown = [_small(frames[chosen]) for frames in streams]
    gap = np.full((*shown[0].shape[:2], GAP, 3), 255, np.uint8)
    rows = np.concatenate([part for frames in shown for part in (gap, frames)][1:], axis=2)  # [T, H, W, 3]
    file = BytesIO()
    Image.fromarray(rows.reshape(-1, *rows.shape[2:])).save(file, format="WEBP", quality=QUALITY, method=4)
    url = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return Strip(url, len(rows), rows.shape[2], rows.shape[1], flow_scale)


def _small(frames: Frames) -> Frames:
    """Frames [T, H, W, 3] that are no wider than SIDE."""
    height, width = frames.shape[1:3]
    if width <= SIDE:
        return frames
    size = (SIDE, max(1, round(SIDE * height / width)))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in frames])
