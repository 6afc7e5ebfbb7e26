"""Counts what faults came to, and writes the table of them into docs/faults.md: no figure there is put in by hand."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from benchmarks.document import write_section

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "faults.md"


class Tally:
    """Rows of the table: a fault, and how often which outcome followed."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Counter[str]] = {}
        self._failed: list[str] = []
        self._remarks: dict[str, str] = {}

    def note(self, fault: str, outcome: str, wrong: str | None = None) -> None:
        """Count one trial; `wrong`, how it ended otherwise than it must, is printed at once and fails the command."""
        self._outcomes.setdefault(fault, Counter())[outcome if wrong is None else wrong] += 1
        if wrong is not None:
            self._failed.append(f"{fault}: {wrong}")
            print(f"WRONG  {self._failed[-1]}", flush=True)

    def remark(self, fault: str, text: str) -> None:
        """Add to a fault's row what its trials have in common."""
        self._remarks[fault] = text

    def markdown(self) -> str:
        """A row a fault: how often it was tried, what happened how often."""
        lines = ["| fault | tried | what happened |", "|---|---:|---|"]
        for fault, outcomes in self._outcomes.items():
            told = "; ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
            remark = f" ({self._remarks[fault]})" if fault in self._remarks else ""
            lines.append(f"| {fault} | {outcomes.total():,} | {told}{remark} |")
        return "\n".join(lines)

    def finish(self, name: str, write: bool) -> int:
        """Print the table, replace that of `name` in the document if asked to, and return the exit code."""
        print(self.markdown())
        for failure in self._failed:
            print(f"WRONG  {failure}", file=sys.stderr)
        if write and not self._failed:
            given = [argument for argument in sys.argv[1:] if argument != "--write"]
            command = f"`python -m chaos.{' '.join([name, *given])}`:"
            write_section(DOCUMENT, name, f"\n{command}\n\n{self.markdown()}\n", "faults")
        return 1 if self._failed else 0


def fault_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of one of the scripts."""
    parser = argparse.ArgumentParser(f"chaos.{name}", description=description)
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn at random (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/faults.md")
    return parser
