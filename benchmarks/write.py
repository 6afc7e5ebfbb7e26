"""Measures the tables of docs/benchmarks.md anew and puts each between its markers, with its command and machine.

    python -m benchmarks.write -c configs/xnorm.yaml loader.batch_size=8 loader.num_threads=2
    python -m benchmarks.write --only training_step packing

The train split of the config must be packed. The text around the markers stays as it is; where data lies is shown as
data/shards. --quick measures next to nothing, to see that all of it works.
"""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.command import argument_parser
from benchmarks.document import write_section
from common.cli import add_config
from common.errors import exit_code_of
from configs import Config, UserError, load_config
from pipeline.format.split import open_split
from pipeline.profile.measure import describe_machine
from pipeline.profile.report import (
    RIVAL_COLUMNS,
    STAGES,
    markdown_table,
    plot_profile,
    rival_rows,
    spread_of_runs,
    verdict,
)

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
SHOWN_SPLIT, SHOWN_BESIDE = "data/shards/train", "data/restarts"
PACKS_BESIDE = f"python preprocess/pack.py -c configs/xnorm.yaml data.codec=jpeg-restarts data.shards={SHOWN_BESIDE}\n"
LOADER = "pipeline.profile"
NAMES = {
    "floor": "decoding alone, from memory (the floor)",
    "reading": "reading: views, bytes, CRCs",
    "decoding": "reading and decoding",
    "copy-out": "and copy-out, no augmentation",
    "loader": "**the loader**, as the config has it",
}


class Section(NamedTuple):
    """What is run for a section: a module, its arguments, and those that make it short."""

    module: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    is_plain: bool = False  # what it prints is no Markdown
    takes_time: bool = False  # so the tests of the documents' commands leave it out


SECTIONS = {
    "loader": Section(LOADER, ("--rounds", "5", "--batches", "8", "--rivals"), ("--rounds", "1", "--batches", "1")),
    "large_index": Section("benchmarks.large_index", (), ("--clips", "100", "--batches", "1"), True),
    "memory": Section("benchmarks.memory", (SHOWN_SPLIT,), ("--epochs", "6"), True),
    "cold_cache": Section("benchmarks.cold_cache", (SHOWN_SPLIT, "--batches", "9"), ("--rounds", "1"), True),
    "packing": Section(
        "benchmarks.packing", (), ("--rounds", "1", "--videos", "1", "--frames", "250"), takes_time=True
    ),
    "training_step": Section(
        "benchmarks.training.step", (), ("--rounds", "1", "--frames", "8", "--size", "32"), takes_time=True
    ),
    "step_memory": Section("benchmarks.training.step_memory", (), ("--clips", "4", "--size", "32"), takes_time=True),
}


@dataclass(frozen=True)
class Bench:
    """The config whose train split is measured on, and the overrides that are shown with it."""

    config: Config
    given: Sequence[str]  # -c and the overrides
    beside: str | None  # another data.shards of the same clips
    runs: int
    picture: Path | None  # of the loader's section, from its first run
    quick: bool

    def section(self, name: str) -> str:
        """Measure a section: its command and what that printed."""
        section = SECTIONS[name]
        arguments = [*(self.given if section.module == LOADER else ()), *section.arguments]
        beside = ["--beside", self.beside] if section.module == LOADER and self.beside else []
        shown = [word for word in arguments if not word.startswith("data.")] + (
            ["--beside", SHOWN_BESIDE] if beside else []
        )
        command = (
            f"```sh\n{PACKS_BESIDE if beside else ''}python -m {section.module} {' '.join(shown)}".rstrip() + "\n```"
        )
        command = f"<!-- needs: time -->\n{command}" if section.takes_time else command
        if self.quick:
            arguments += section.quick
        if section.module == LOADER:
            return f"{command}\n\n{self._profile([*arguments, *beside])}"
        split = str(self.config.data.shards / "train")
        printed = run(section.module, [split if word == SHOWN_SPLIT else word for word in arguments])
        return f"{command}\n\n" + (f"```text\n{printed}\n```" if section.is_plain else printed)

    def _profile(self, arguments: Sequence[str]) -> str:
        reports = []
        with tempfile.TemporaryDirectory() as folder:
            for number in range(self.runs):
                path = Path(folder) / f"{number}.json"
                run(LOADER, [*arguments, "--quiet", "--json", str(path)])
                reports.append(json.loads(path.read_text()))
        if self.picture:
            plot_profile(reports[0], self.picture)
        return f"{self._data()}\n\n{loader_table(reports)}"

    def _data(self) -> str:
        split = open_split(self.config.data.shards / "train")
        table, clip = split.table, self.config.clip
        return (
            f"{len(table):,} clips of frames of {table.width.max()} x {table.height.max()}, {clip.num_frames} of RGB, "
            f"u and v each ({3 * clip.num_frames} frames per clip), crop {clip.crop_size}; of each run the "
            "median of its interleaved rounds, with the range of all rounds."
        )


def run(module: str, arguments: Sequence[str]) -> str:
    """Run a module in a process of its own and return what it prints.

    Raises:
        UserError: it failed; what it said of that stands on stderr.
    """
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f"python -m {module} {' '.join(arguments)}: failed with exit code {done.returncode}")
    return done.stdout.strip()


def loader_table(reports: Sequence[dict[str, Any]]) -> str:
    """The loader's part of a profile, run once or several times, as Markdown."""
    stages = []
    for name in STAGES:
        figures = [report["candidates"][name] for report in reports]
        measured = [("cpu_ms_per_clip", ".1f"), ("clips_per_s", ".0f"), ("over_floor", ".2f")]
        stages.append([NAMES[name], *(spread_of_runs(figures, *key) for key in measured)])
    loads = [load for report in reports for load in report["load_average"]]
    left_out = "".join(f" Left out: {name} ({why})." for name, why in reports[0]["left_out"].items())
    return "\n\n".join(
        [
            markdown_table(["", "CPU ms per clip", "clips/s", "CPU over the floor"], stages),
            "The loader: " + "; ".join(verdict(report) for report in reports) + ".",
            markdown_table(RIVAL_COLUMNS, rival_rows(reports)),
            f"Load average {min(loads):.1f} to {max(loads):.1f} before and after the runs.{left_out}",
        ]
    )


def machine() -> str:
    """What the figures were measured on."""
    about = describe_machine()
    return (
        f"Measured on {about['cpu']}, GPU: {about['gpu']}; Python {about['python']}, torch {about['torch']}, NumPy "
        f"{about['numpy']}, DALI {about['dali']}; load average {os.getloadavg()[0]:.1f}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it went."""
    parser = argument_parser(__doc__)
    add_config(parser)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=tuple(SECTIONS), metavar="SECTION")
    parser.add_argument("--beside", metavar="SHARDS", help="the same clips packed otherwise, for the loader's section")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="runs of the loader's section")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the first of them")
    parser.add_argument("--quick", action="store_true", help="measure next to nothing")
    parser.add_argument("-o", "--output", type=Path, default=DOCUMENT, metavar="FILE", help="the document")
    return exit_code_of(partial(_write, parser.parse_intermixed_args(argv)))


def _write(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    given = ["-c", str(arguments.config), *arguments.overrides]
    bench = Bench(config, given, arguments.beside, arguments.runs, arguments.picture, arguments.quick)
    for name in arguments.only:
        print(f"{name} ...", flush=True)
        body = f"{bench.section(name)}\n\n{machine()}"
        write_section(arguments.output, name, body)  # after each, so that a long run leaves what it has
    return 0


if __name__ == "__main__":
    sys.exit(main())
