"""Figures as docs/benchmarks.md shows them: Markdown tables, medians with their ranges."""

import statistics
from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown has it, its first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def spread(values: Sequence[float], form: str) -> str:
    """The median of some rounds, with their range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
