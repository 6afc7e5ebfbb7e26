"""Content of a contact sheet: both streams as the model sees them, and the whole frames."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.batch import Batch
from pipeline.inspect.alignment import FrameAlignment
from pipeline.inspect.flow_colours import FASTEST, FlowColours, Frames, pixels_per_level, to_vectors
from pipeline.loader import ClipLoader
from pipeline.reader import EncodedFrame, RawFrame
from pipeline.views import View

MOVES = 0.4  # of that speed, against the motion that most of the frame has, which is the camera's
RESTS = 0.1  # of the fastest motion of the clip: nothing that is slower moves
STILL = 2.0  # levels: nor does what is slower than this
ALIKE = 8.0  # levels within which motions are one
NUM_KINDS = 64  # of them in each direction, more than there can be


@dataclass(frozen=True)
class Sheet:
    """One clip as the model sees it.

    Attributes:
        height, width: of the whole frames, pixels.
        rgb, flow: uint8 [T, H, W, 3]; flow as colours, no motion white, one scale for the whole clip; None where
            the stream was not decoded.
        flow_scale: how fast the most saturated colour is; "" without flow.
        moving: bool [T, H, W], where the flow differs from that of the surroundings.
        whole_rgb, whole_flow: the frames that the view was cut from, in the same colours; None unless asked for.
    """

    clip_id: str
    video_id: str
    label: str  # of the first target: its name, or its number
    view: View
    height: int
    width: int
    alignment: FrameAlignment
    rgb: Frames | None
    flow: Frames | None
    flow_scale: str
    moving: NDArray[np.bool_] | None
    whole_rgb: Frames | None = None
    whole_flow: Frames | None = None

    @classmethod
    def of(
        cls, loader: ClipLoader, batch: Batch, position: int = 0, whole: bool = False, root: Path | None = None
    ) -> "Sheet":
        """The sheet of the batch's clip at `position`, with `whole` frames if wanted; `root`: see FrameAlignment.of."""
        view, table = batch.views[position], loader.table
        files = loader.fetcher.reader.read(view.clip, view.frames) if whole else {}
        width = int(table.width[view.clip])
        video_id = table.video_id[view.clip].decode()
        flows = [] if batch.flow is None else [batch.flow[position].cpu()]
        if "flow" in files:
            flows.append(torch.from_numpy(np.stack([_decode(plane, width) for plane in files["flow"]])))
        colours = FlowColours.of(*(flow.numpy() for flow in flows)) if flows else None
        painted = [colours.paint(*flow.numpy()) for flow in flows] if colours else []
        return cls(
            clip_id=loader.clip_ids[view.clip],
            video_id=video_id,
            label=_label(loader, int(batch.labels[position])),
            view=view,
            height=int(table.height[view.clip]),
            width=int(table.width[view.clip]),
            alignment=FrameAlignment.of(table, view.clip, view.frames, root),
            rgb=None if batch.rgb is None else batch.rgb[position].permute(1, 2, 3, 0).cpu().numpy(),
            flow=painted[0] if painted else None,
            flow_scale=colours.scale_text(pixels_per_level(loader.source, video_id)) if colours else "",
            moving=find_moving(flows[0]) if flows else None,
            whole_rgb=_decode(files["rgb"][0], width) if "rgb" in files else None,
            whole_flow=painted[1] if len(painted) > 1 else None,
        )

    @property
    def title(self) -> str:
        """Which clip it is."""
        return f"{self.clip_id}   label {self.label}   video {self.video_id}"

    @property
    def crop_text(self) -> str:
        """Its window in the frame, and whether that is mirrored."""
        view = self.view
        window = f"crop {view.side} x {view.side} at row {view.top}, column {view.left}"
        return f"{window} of {self.height} x {self.width}, {'mirrored' if view.mirror else 'not mirrored'}"


def find_moving(flow: Tensor) -> NDArray[np.bool_]:
    """Where flow, uint8 [2, T, H, W], differs clearly from the camera's motion: bool [T, H, W]."""
    vectors = to_vectors(flow)
    camera = torch.stack([_commonest(frame) for frame in vectors.flatten(2).unbind(1)], dim=1)  # [2, T]
    speed = torch.hypot(*(vectors - camera[..., None, None]))  # [T, H, W]
    fastest = torch.stack([_quantile(frame.flatten(), FASTEST) for frame in speed])  # [T]
    least = (MOVES * fastest).clamp(min=max(STILL, RESTS * float(fastest.max())))
    moving: NDArray[np.bool_] = (speed > least[:, None, None]).numpy()
    return moving


def _commonest(vectors: Tensor) -> Tensor:
    """The motion [2] that most of `vectors`, [2, N], have, as the mean of those that are alike."""
    u, v = (vectors / ALIKE).round().long() + NUM_KINDS // 2
    kinds = NUM_KINDS * u + v
    return vectors[:, kinds == kinds.bincount().argmax()].mean(dim=1)


def _quantile(values: Tensor, share: float) -> Tensor:
    """The value that `share` of `values` do not exceed, 0 of none; torch.quantile is for few values."""
    if not len(values):
        return torch.zeros((), dtype=values.dtype)
    return values.kthvalue(max(1, round(share * len(values)))).values


def _decode(encoded: Sequence[EncodedFrame], width: int) -> NDArray[np.uint8]:
    """Whole frames, [T, H, W, 3], or [T, H, W] of grey ones; a file can be wider than its frame."""
    return np.stack([_decode_one(frame)[:, :width] for frame in encoded])


def _decode_one(encoded: EncodedFrame) -> NDArray[np.uint8]:
    if isinstance(encoded, RawFrame):
        pixels = encoded.pixels()
        return pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return np.asarray(Image.open(io.BytesIO(encoded.tobytes())))


def _label(loader: ClipLoader, label: int) -> str:
    """The class of a clip: its number, and its name where it has one."""
    names = next(iter(loader.classes.values()))
    return str(label) if names is None or label < 0 else f"{label} ({names[label]})"
