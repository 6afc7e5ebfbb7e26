"""Colours of charts are told apart by all, and stand out from white and from near black."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from common.palette import SERIES

# G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, A Physiologically-based Model for Simulation of Color Vision
# Deficiency, IEEE TVCG 15 (6), 2009, table 1 at severity 1.0: linear RGB as it is seen.
SEEN = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# IEC 61966-2-1: linear sRGB to XYZ under D65, and D65's white.
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])
APART = 15  # CIE 1976 colour difference; about 2.3 is just noticed side by side


def linear(color: str) -> NDArray[np.float64]:
    values = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio = XYZ @ rgb / WHITE
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted(float(XYZ[1] @ linear(color)) for color in (one, other))
    return (lighter + 0.05) / (darker + 0.05)  # WCAG 2.1


def least_difference(colors: Sequence[str], kind: str) -> float:
    seen = [lab(np.clip(np.array(SEEN[kind]) @ linear(color), 0, 1)) for color in colors]
    return min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2))


@pytest.mark.parametrize("kind", SEEN)
def test_no_two_colours_of_a_chart_look_alike(kind: str) -> None:
    assert least_difference(SERIES, kind) > APART


def test_the_check_notices_a_green_and_a_brown_that_only_some_tell_apart() -> None:
    confused = ("#2ca02c", "#9a7b20")
    assert least_difference(confused, "deuteranopia") < APART < least_difference(confused, "normal")


@pytest.mark.parametrize("ground", ["#ffffff", "#15181c"])
def test_lines_stand_out_from_light_and_dark_grounds(ground: str) -> None:
    assert [color for color in SERIES[:4] if contrast(color, ground) < 3] == []
