"""Drawing of contact sheets: a column per time, both streams below their frame numbers."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from common.files import atomic_write
from pipeline.inspect.flow_colours import ZERO, FlowColours, Frames
from pipeline.inspect.sheet import Sheet

COLUMNS = 8  # of a line; a clip alone shows all its frames, in several lines
FEW_COLUMNS = 4  # frames that are shown of one of several clips
LARGE, SMALL = 224, 160  # pixels that an image is wide at most: of a clip alone, of one of several
GAP, NAMES, TEXT = 4, 78, 18  # pixels between images, of the column of names, of a line of text
BORDER = 3 * GAP  # pixels, around and between blocks
WHEEL = 50  # pixels, of the legend of colours
LEGEND = "flow: hue is where it goes, white no motion; over each clip stands\nhow fast full colour is"
INK, FAINT, RIGHT, WRONG, EDGE = (20, 20, 20), (110, 110, 110), (0, 110, 50), (200, 0, 0), (255, 30, 30)
OUTLINE = (255, 255, 0)


class Row(NamedTuple):
    """One row of images, one per time."""

    name: str
    frames: Frames  # uint8 [T, H, W, 3]
    is_whole: bool = False  # whole frames, into which the window is drawn


def draw_sheets(sheets: Sequence[Sheet]) -> Image.Image:
    """All sheets in one image: a clip alone with all its frames, several in two columns."""
    if len(sheets) == 1:
        return _frame_of([[_stack(_draw_clip(sheets[0]))]])
    clips = [_stack(_draw_small(sheet)) for sheet in sheets]
    legend = Image.new("RGB", (clips[0].width, WHEEL), "white")
    legend.paste(_wheel(), (0, 0))
    ImageDraw.Draw(legend).multiline_text((WHEEL + 8, 8), LEGEND, FAINT, font=_font(12))
    return _frame_of([[legend], *(clips[number : number + 2] for number in range(0, len(clips), 2))])


def _stack(images: Sequence[Image.Image]) -> Image.Image:
    """Images one below the other."""
    return _laid_out([[image] for image in images], BORDER)


def _frame_of(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Rows of images with a border around and between them."""
    return ImageOps.expand(_laid_out(rows, BORDER), BORDER, "white")


def _laid_out(rows: Sequence[Sequence[Image.Image]], gap: int) -> Image.Image:
    widths = [sum(image.width for image in row) + gap * (len(row) - 1) for row in rows]
    heights = [max(image.height for image in row) for row in rows]
    canvas = Image.new("RGB", (max(widths), sum(heights) + gap * (len(rows) - 1)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for image in row:
            canvas.paste(image, (left, top))
            left += image.width + gap
        top += height + gap
    return canvas


def save_sheets(sheets: Sequence[Sheet], path: Path) -> None:
    """Write the sheets as one PNG."""
    with atomic_write(path) as file:
        draw_sheets(sheets).save(file, format="PNG")


def _draw_clip(sheet: Sheet) -> list[Image.Image]:
    """The heading and all frames of a clip, in lines of columns."""
    num_frames = len(sheet.alignment.rgb)
    lines = np.split(np.arange(num_frames), range(COLUMNS, num_frames, COLUMNS))
    rows = _rows(sheet)
    width = _shown_width(rows[0].frames.shape[2], LARGE)
    drawn = [_draw_line(sheet, rows, columns, width) for columns in lines]
    return [_draw_heading(sheet, drawn[0].width), *drawn]


def _draw_small(sheet: Sheet) -> list[Image.Image]:
    """A line of heading and a few frames of a clip; a second line says what is wrong with it."""
    columns = np.unique(np.linspace(0, len(sheet.alignment.rgb) - 1, FEW_COLUMNS).round().astype(np.int64))
    rows = _rows(sheet)
    line = _draw_line(sheet, rows, columns, _shown_width(rows[0].frames.shape[2], SMALL))
    is_wrong = bool(sheet.alignment.misaligned.any())
    heading = Image.new("RGB", (line.width, (1 + is_wrong) * TEXT), "white")
    draw = ImageDraw.Draw(heading)
    mirrored = ["mirrored"] if sheet.view.mirror else []
    scale = [f"full colour {sheet.flow_scale}"] if sheet.flow_scale else []
    draw.text((0, 0), "  ·  ".join([sheet.clip_id, sheet.label, *mirrored, *scale]), INK, font=_font(13, bold=True))
    if is_wrong:
        draw.text((0, TEXT), sheet.alignment.summary, WRONG, font=_font(12))
    return [heading, line]


def _shown_width(width: int, most: int) -> int:
    """The width shown: small images grow by a whole number (square pixels), large ones shrink."""
    return width * max(1, most // width) if width <= most else most


def _draw_heading(sheet: Sheet, width: int) -> Image.Image:
    image = Image.new("RGB", (width, 3 * TEXT), "white")
    draw = ImageDraw.Draw(image)
    is_wrong = bool(sheet.alignment.misaligned.any())
    draw.text((0, 0), sheet.title, INK, font=_font(15, bold=True))
    draw.text((0, TEXT), sheet.crop_text, INK, font=_font(13))
    draw.text((0, 2 * TEXT), sheet.alignment.summary, WRONG if is_wrong else RIGHT, font=_font(13, bold=True))
    if sheet.flow is not None:
        image.paste(_wheel(), (width - WHEEL, 0))
        scale = f"flow: hue is where it goes,\nwhite no motion, full colour\n{sheet.flow_scale}"
        draw.multiline_text((width - WHEEL - 8, 0), scale, FAINT, font=_font(12), anchor="ra", align="right")
    return image


def _draw_line(sheet: Sheet, rows: Sequence[Row], columns: NDArray[np.int64], width: int) -> Image.Image:
    """The images of `columns`, a row per stream."""
    heights = [round(width * row.frames.shape[1] / row.frames.shape[2]) for row in rows]
    tops = 2 * TEXT + np.cumsum([0, *(height + GAP for height in heights)])
    image = Image.new("RGB", (NAMES + len(columns) * (width + GAP), int(tops[-1])), "white")
    draw = ImageDraw.Draw(image)
    for line, name in enumerate(("RGB frame", "flow frame")):
        draw.text((0, line * TEXT), name, FAINT, font=_font(12))
    for row, top in zip(rows, tops.tolist(), strict=False):
        draw.multiline_text((0, top), row.name, INK, font=_font(12))
    for position, column in enumerate(columns.tolist()):
        left = NAMES + position * (width + GAP)
        _draw_numbers(draw, left, sheet, column)
        for row, top, height in zip(rows, tops.tolist(), heights, strict=False):
            image.paste(_frame(sheet, row, column).resize((width, height), _resampling(row, width)), (left, top))
        if sheet.alignment.misaligned[column]:
            box = (left - 2, 2 * TEXT - 2, left + width + 1, int(tops[-1]) - GAP + 1)
            draw.rectangle(box, outline=WRONG, width=3)
    return image


def _rows(sheet: Sheet) -> list[Row]:
    """What there is to show, what the model sees first."""
    outlined = None if sheet.rgb is None or sheet.moving is None else outline(sheet.rgb, sheet.moving)
    found = [
        ("RGB", sheet.rgb, False),
        ("flow", sheet.flow, False),
        ("RGB, and\noutlined\nwhat moves\nin flow", outlined, False),
        ("whole RGB,\nthe crop in\nred; mark:\nits upper\nleft corner", sheet.whole_rgb, True),
        ("whole flow", sheet.whole_flow, True),
    ]
    return [Row(name, frames, is_whole) for name, frames, is_whole in found if frames is not None]


def _draw_numbers(draw: ImageDraw.ImageDraw, left: int, sheet: Sheet, column: int) -> None:
    """The frame numbers of a column, with times where known; a wrong one with what it should be."""
    alignment = sheet.alignment
    for line, numbers in enumerate((alignment.rgb, alignment.flow)):
        text = str(numbers[column])
        if alignment.seconds is not None:
            text += f"   {alignment.seconds[line][column]:.2f} s"
        is_wrong = bool(line and alignment.misaligned[column])
        if is_wrong:
            text += f"  not {alignment.expected_flow[column]}"
        elif line and alignment.clamped[column]:
            text += "  (the last)"
        draw.text((left, line * TEXT), text, WRONG if is_wrong else INK, font=_font(12, bold=True))


def _frame(sheet: Sheet, row: Row, column: int) -> Image.Image:
    image = Image.fromarray(row.frames[column])
    if row.is_whole:
        view = sheet.view
        thick = max(2, image.width // 110)
        box = (view.left, view.top, view.left + view.side - 1, view.top + view.side - 1)
        draw = ImageDraw.Draw(image)
        draw.rectangle((box[0] - thick, box[1] - thick, box[2] + thick, box[3] + thick), outline="white", width=thick)
        draw.rectangle(box, outline=EDGE, width=thick)
        # A mark in the corner that is the crop's upper left one: right of the window where it is mirrored.
        corner, inwards = (box[2], -1) if view.mirror else (box[0], 1)
        arm = view.side // 6
        draw.polygon([(corner, box[1]), (corner + inwards * arm, box[1]), (corner, box[1] + arm)], fill=EDGE)
    return image


def _resampling(row: Row, width: int) -> Image.Resampling:
    return Image.Resampling.LANCZOS if row.frames.shape[2] > width else Image.Resampling.NEAREST


def outline(frames: Frames, inside: NDArray[np.bool_]) -> Frames:
    """Frames [T, H, W, 3], darkened, with the border of `inside` [T, H, W] drawn in."""
    padded = np.pad(inside, ((0, 0), (1, 1), (1, 1)), mode="edge")
    inner = padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    drawn = frames // 4 * 3
    drawn[inside & ~inner] = OUTLINE
    return drawn


@cache
def _wheel() -> Image.Image:
    """The legend of the flow's colours: a disc, each point in the colour of motion to it."""
    levels = np.linspace(0, 255, WHEEL).round().astype(np.uint8)
    u, v = np.meshgrid(levels, levels)
    colours = FlowColours(fastest=ZERO).paint(u, v)
    colours[np.hypot(u - ZERO, v - ZERO) > ZERO] = 255
    return Image.fromarray(colours)


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, so that it is there."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
