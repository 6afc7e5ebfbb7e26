"""The picture of contact sheets: what stands where, and what a wrong pairing looks like."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipeline.inspect.drawing import (
    BORDER,
    COLUMNS,
    FEW_COLUMNS,
    GAP,
    LARGE,
    NAMES,
    SMALL,
    WHEEL,
    WRONG,
    draw_sheets,
    outline,
)
from pipeline.inspect.sheet import Sheet
from pipeline.loader import ClipLoader

LOADER = {"batch_size": 3, "num_frames": 12, "crop_size": 48, "prefetch": 1}


@pytest.fixture
def sheets(split: Path) -> list[Sheet]:
    with ClipLoader(split, **LOADER) as loader:
        batch = loader.load([0, 3, 5], 0)
        return [Sheet.of(loader, batch, position, whole=True) for position in range(3)]


def mispaired(sheet: Sheet) -> Sheet:
    moments = dataclasses.replace(sheet.alignment, flow=sheet.alignment.flow + 7)
    return dataclasses.replace(sheet, alignment=moments)


def test_a_clip_alone_shows_all_frames_with_their_pixels_as_squares(sheets: list[Sheet]) -> None:
    picture = np.asarray(draw_sheets(sheets[:1]))
    side = 48 * (LARGE // 48)
    left, border = NAMES, 3 * GAP
    found = 0
    for frame in sheets[0].rgb:
        column = found % COLUMNS
        x = border + left + column * (side + GAP)
        enlarged = np.kron(frame, np.ones((side // 48, side // 48, 1), np.uint8))
        tops = [y for y in range(picture.shape[0] - side) if np.array_equal(picture[y, x : x + side], enlarged[0])]
        assert any(np.array_equal(picture[y : y + side, x : x + side], enlarged) for y in tops)
        found += 1
    assert found == 12


def test_several_clips_show_a_few_frames_each_in_two_columns(sheets: list[Sheet]) -> None:
    clip_width = NAMES + FEW_COLUMNS * (48 * (SMALL // 48) + GAP)
    four, two = draw_sheets([*sheets, sheets[0]]), draw_sheets(sheets[:2])
    assert four.width == two.width == 2 * clip_width + 3 * BORDER
    assert four.height - two.height == two.height - 2 * BORDER - WHEEL  # a second row as high as the first
    left, right = (np.asarray(two)[:, at : at + clip_width] for at in (BORDER, 2 * BORDER + clip_width))
    for shown, sheet in ((left, sheets[0]), (right, sheets[1])):
        first = np.kron(sheet.rgb[0], np.ones((SMALL // 48, SMALL // 48, 1), np.uint8))
        tops = range(shown.shape[0] - len(first))
        assert any(np.array_equal(shown[y : y + len(first), NAMES : NAMES + len(first)], first) for y in tops)


def test_whole_frames_make_the_sheet_taller(sheets: list[Sheet]) -> None:
    without = [dataclasses.replace(sheet, whole_rgb=None, whole_flow=None) for sheet in sheets]
    assert draw_sheets(sheets).height > draw_sheets(without).height


def test_a_wrong_pairing_is_framed_in_red_and_a_right_one_is_not(sheets: list[Sheet]) -> None:
    sheet = dataclasses.replace(sheets[0], whole_rgb=None, whole_flow=None)
    right, wrong = (np.asarray(draw_sheets([one])) for one in (sheet, mispaired(sheet)))
    in_red = [int((picture == WRONG).all(axis=2).sum()) for picture in (right, wrong)]
    assert in_red[0] < 100 * COLUMNS < in_red[1]


def test_an_outline_is_the_border_of_what_is_inside() -> None:
    inside = np.zeros((1, 7, 7), bool)
    inside[0, 2:5, 2:5] = True
    drawn = outline(np.zeros((1, 7, 7, 3), np.uint8), inside)[0].any(axis=2)
    assert drawn.sum() == 8  # 3 x 3 without its middle
    assert not drawn[3, 3]
