"""The contact sheet of a clip pair: what it shows, and the drawing of it."""

import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.utils import flow_to_image

from configs.files import atomic_write
from pipeline.batch import Batch
from pipeline.loader import ClipLoader
from pipeline.reader import Jpeg
from pipeline.sampler import View

matplotlib.use("Agg")

Pictures = NDArray[np.uint8]  # [T, H, W, 3]


@dataclass(frozen=True)
class Sheet:
    """One clip as the model sees it.

    Attributes:
        rgb, flow: uint8 [T, H, W, 3]; flow as colours, zero motion white, one scale for the whole clip.
        rgb_numbers, flow_numbers: the files' frame numbers of each column, [T].
    """

    clip_id: str
    label: int
    view: View
    rgb: Pictures
    flow: Pictures
    rgb_numbers: list[int]
    flow_numbers: list[int]

    @classmethod
    def of(cls, loader: ClipLoader, batch: Batch) -> "Sheet":
        """The sheet of a batch's first clip."""
        view, table = batch.views[0], loader.table
        rows = table.first_frame[view.clip] + view.frames
        assert batch.rgb is not None
        assert batch.flow is not None
        return cls(
            clip_id=loader.clip_ids[view.clip],
            label=int(batch.labels[0]),
            view=view,
            rgb=batch.rgb[0].permute(1, 2, 3, 0).numpy(),
            flow=colour_flow(batch.flow[0]),
            rgb_numbers=table.rgb_index[rows].tolist(),
            flow_numbers=table.flow_index[rows].tolist(),
        )

    @property
    def title(self) -> str:
        """Which clip it is, and how it is seen."""
        view = self.view
        window = f"rows {view.top} to {view.top + view.side - 1}, columns {view.left} to {view.left + view.side - 1}"
        return f"{self.clip_id}  label {self.label}  {window}  {'mirrored' if view.mirror else 'not mirrored'}"


def colour_flow(flow: Tensor) -> Pictures:
    """Flow uint8 [2, T, H, W] as colours [T, H, W, 3]: direction is hue, speed is saturation, no motion is white."""
    vectors = flow.permute(1, 0, 2, 3).double() - 127.5  # [T, 2, H, W]
    vectors[vectors.abs() <= 0.5] = 0  # zero is stored as 127 or 128
    if not vectors.any():
        return np.full((*vectors.shape[:1], *vectors.shape[2:], 3), 255, np.uint8)
    colours: Tensor = flow_to_image(vectors.float())
    return colours.permute(0, 2, 3, 1).numpy()


def decode_whole(files: dict[str, list[list[Jpeg]]]) -> tuple[Pictures, Pictures]:
    """Whole frames of RGB and coloured flow, uint8 [T, H, W, 3] each, from a clip's files."""

    def pictures(jpegs: list[Jpeg]) -> NDArray[np.uint8]:
        return np.stack([np.asarray(Image.open(io.BytesIO(jpeg.tobytes()))) for jpeg in jpegs])

    flow = torch.from_numpy(np.stack([pictures(plane) for plane in files["flow"]]))  # [2, T, H, W]
    return pictures(files["rgb"][0]), colour_flow(flow)


def draw_sheet(sheet: Sheet, raw: tuple[Pictures, Pictures] | None, path: Path) -> None:
    """Write the sheet as a PNG; `raw` adds the whole frames of both streams, with the window drawn in."""
    rows = [(sheet.rgb, "rgb", sheet.rgb_numbers, False), (sheet.flow, "flow", sheet.flow_numbers, False)]
    if raw:
        rows += [(raw[0], "whole rgb", sheet.rgb_numbers, True), (raw[1], "whole flow", sheet.flow_numbers, True)]
    num_frames = len(sheet.rgb)
    figure = Figure(figsize=(1.5 * num_frames, 1.8 * len(rows) + 0.5), layout="constrained")
    figure.suptitle(sheet.title)
    axes = figure.subplots(len(rows), num_frames, squeeze=False)
    for row, (pictures, name, numbers, has_window) in enumerate(rows):
        for column in range(num_frames):
            axis = axes[row, column]
            axis.imshow(pictures[column])
            axis.set_title(f"{name} {numbers[column]}", fontsize="small")
            axis.axis("off")
            if has_window:
                view = sheet.view
                axis.add_patch(Rectangle((view.left, view.top), view.side, view.side, fill=False, color="red"))
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=80)
