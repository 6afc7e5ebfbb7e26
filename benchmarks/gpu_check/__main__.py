"""Command line: all that only a GPU can show, within ten minutes, as tables and as JSON."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_check import (
    amp,
    convolutions,
    end_to_end,
    gpu_tests,
    loaders,
    memory,
    memory_format,
    methods,
    ranks,
    resume,
)
from benchmarks.gpu_check.base import CONFIGS, Check, Row, Setup
from benchmarks.gpu_check.data import make_data
from common.cli import at_least, command_parser, path_type, require_parent
from common.errors import exit_code_of
from common.files import atomic_write
from configs import load_config
from engine.runtime.device import choose_placement
from pipeline.profile.measure import describe_machine
from pipeline.profile.report import markdown_table

CHECKS = {
    module.CHECK.name: module.CHECK
    for module in (
        convolutions,
        loaders,
        methods,
        end_to_end,
        amp,
        resume,
        memory,
        ranks,
        gpu_tests,
        memory_format,  # last, as compiling takes minutes
    )
}
DRY = ("clip.num_frames=8", "clip.crop_size=32", "loader.batch_size=2", "model.width=0.05")

DESCRIPTION = (
    "Check and measure what only a GPU can show: precision, layouts, decoders, memory, resuming, ranks. Makes its own "
    "clips; the settings are those of configs/xnorm.yaml with the overrides."
)
NOTES = "Without a GPU it is a dry run: everything small and on the CPU, to see that it works, and nothing is judged.\n"
EXAMPLES = """\
python -m benchmarks.gpu_check --json gpu.json
python -m benchmarks.gpu_check --only loaders end_to_end loader.batch_size=32 loader.num_threads=8
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks; exit code 1 when one failed or found what must not be."""
    parser = command_parser("benchmarks.gpu_check", DESCRIPTION, EXAMPLES, notes=NOTES)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="config keys to replace")
    parser.add_argument(
        "--only", nargs="+", choices=CHECKS, default=tuple(CHECKS), metavar="CHECK", help="which checks"
    )
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, though there be a GPU")
    parser.add_argument("--minutes", type=at_least(1), default=10, help="after which no other check is begun")
    parser.add_argument(
        "--json", type=path_type, metavar="FILE", help="write all that was found (default: none written)"
    )
    return exit_code_of(partial(_run, parser.parse_intermixed_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    require_parent(arguments.json)
    is_dry = arguments.dry_run or not torch.cuda.is_available()
    machine = describe_machine()
    print(f"{machine['gpu']}; {machine['cpu']}; torch {machine['torch']}, DALI {machine['dali']}", flush=True)
    until = time.monotonic() + 60 * arguments.minutes
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        setup = prepare(Path(folder), is_dry, arguments.overrides)
        for name in arguments.only:
            found[name] = perform(CHECKS[name], setup, until)
            print("\n" + table(CHECKS[name], found[name]), flush=True)
            if arguments.json:  # after each, so that a run that is cut leaves what it has
                with atomic_write(arguments.json, "w") as file:
                    json.dump({"machine": machine, "dry_run": is_dry, "checks": found}, file, indent=2)
    return int(any(check["status"] == "failed" for check in found.values()))


def prepare(folder: Path, is_dry: bool, overrides: Sequence[str] = ()) -> Setup:
    """Make the clips, and settle what the checks work with."""
    data, restarts = make_data(folder / "data", *((1, 4) if is_dry else (4, 16)))
    every = [*data, *(DRY if is_dry else ()), *overrides]
    return Setup(
        config=load_config(CONFIGS / "xnorm.yaml", every),
        overrides=tuple(every),
        device=choose_placement("cpu" if is_dry else "cuda", "auto").device,
        folder=folder,
        restarts=restarts,
        is_dry=is_dry,
        steps=1 if is_dry else 20,
        learning_steps=4 if is_dry else 200,
        loaded=10 if is_dry else 2000,
    )


def perform(check: Check, setup: Setup, until: float) -> dict[str, Any]:
    """Run a check unless there is no time or no GPU for it: its status, seconds, rows, and why it is not done."""
    here = torch.cuda.device_count()
    if check.gpus > here and not (setup.is_dry and check is ranks.CHECK):
        return {"status": "skipped", "why": f"needs {check.gpus} GPUs, found {here}", "seconds": 0.0, "rows": []}
    if time.monotonic() > until:
        return {"status": "skipped", "why": "no time left; --only runs it alone", "seconds": 0.0, "rows": []}
    begin, rows, why = time.perf_counter(), list[Row](), ""
    try:
        for row in check.run(setup):
            rows.append({key: value for key, value in row.items() if key != "ok" or not setup.is_dry})
    except Exception as error:  # the others go on
        why = f"{type(error).__name__}: {error}"
    failed = bool(why) or not all(row.get("ok", True) for row in rows)
    status = "failed" if failed else "done"
    return {"status": status, "why": why, "seconds": time.perf_counter() - begin, "rows": rows}


def table(check: Check, found: dict[str, Any]) -> str:
    """What a check found, as Markdown."""
    why = f": {found['why']}" if found["why"] else ""
    title = f"### {check.name}: {check.about}\n\n{found['status']} in {found['seconds']:.1f} s{why}"
    columns = list(dict.fromkeys(key for row in found["rows"] for key in row))
    rows = [[_cell(row.get(column, "")) for column in columns] for row in found["rows"]]
    return f"{title}\n\n{markdown_table(columns, rows)}" if rows else title


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
