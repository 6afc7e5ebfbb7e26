"""Charts of a page: matplotlib's figures as inline SVG, whose text and colours follow the page's theme."""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any, NamedTuple

from markupsafe import Markup

from common.palette import FAINT, GRID, INK
from engine.runs.curves import draw_panel, gather, panels
from engine.runs.metrics_log import Record

SIZE = (3.6, 2.3)  # inches
THEMED = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--line)"}
LOOK = {
    "svg.fonttype": "none",  # text as text: the page's font, found by its search, read aloud
    "svg.hashsalt": "",  # the same ids each time
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}
# A figure by itself sets these; inside a page they would hold for all of it, or stand there several times.
ALONE = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|(?<=<g) id=\"[^\"]*\"", re.DOTALL)


class Chart(NamedTuple):
    """A title, and below it a figure."""

    title: str
    svg: Markup


def draw_curves(records: Sequence[Record], chance: float | None) -> Iterator[Chart]:
    """The panels of curves.png, one chart each."""
    from matplotlib.figure import Figure  # here: slow to import

    points = gather(records)
    with themed():
        for panel in panels(points, chance):
            figure = Figure(figsize=SIZE)
            figure.subplots_adjust(0.13, 0.11, 0.98, 0.97)
            draw_panel(figure.subplots(), panel, points)
            yield Chart(panel.title, to_svg(figure, f"{panel.title} over epochs"))


def themed() -> AbstractContextManager[None]:
    """Have figures that are made meanwhile look as pages want them."""
    import matplotlib

    return matplotlib.rc_context(LOOK)  # type: ignore[no-any-return]


def to_svg(figure: Any, description: str) -> Markup:
    """A figure of matplotlib as SVG that grows with the page."""
    file = StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    whole = file.getvalue()
    svg = ALONE.sub("", whole[whole.index("<svg") :])
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None, "matplotlib writes one"
    for color, variable in THEMED.items():
        svg = svg.replace(color, variable)
    opening = Markup('<svg {} role="img" aria-label="{}">').format(Markup(view_box[0]), description)
    return opening + Markup(" ".join(svg[svg.index(">") + 1 :].split()))  # a line, not one of each point of a curve
