"""The whole road in one command: write a small two-stream data set, pack it, train three methods, compare them."""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

import train
from configs import UserError, load_config
from configs.errors import exit_code_of
from preprocess import pack, synth

CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
CEILINGS = {"rgb": 0.5, "flow": 0.5, "xnorm": 1.0}  # what a perfect classifier of these streams can reach
SINGLE_AT_MOST, FUSION_AT_LEAST = 0.6, 0.9  # what the demo must show, or it has failed


@dataclass(frozen=True)
class Result:
    """What one method's summary.json says, as far as the table shows it."""

    fusion: str
    accuracy: float
    parameters: int
    clips_per_s: float
    data_wait: float
    seconds: float

    @property
    def as_expected(self) -> bool:
        """Whether a single stream stays below what it cannot know, and fusion finds what both know together."""
        return self.accuracy <= SINGLE_AT_MOST if CEILINGS[self.fusion] < 1 else self.accuracy >= FUSION_AT_LEAST


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; exit code 1 when it does not show what it should."""
    parser = argparse.ArgumentParser("demo.py", description=__doc__)
    parser.parse_args(argv)
    return exit_code_of(_run)


def _run() -> int:
    begin = time.monotonic()
    config = load_config(CONFIG)
    shutil.rmtree(config.runs, ignore_errors=True)  # of the demo before: it is there to be seen training
    _must(synth.main(["-o", str(config.data.frames)]), "writing the data")
    _must(pack.main(["-c", str(CONFIG)]), "packing")
    results = [_train(fusion, config.runs) for fusion in CEILINGS]
    _show(results, time.monotonic() - begin)
    return 0 if all(result.as_expected for result in results) else 1


def _train(fusion: str, runs: Path) -> Result:
    _must(train.main(["-c", str(CONFIG), f"name={fusion}", f"model.fusion={fusion}"]), f"training {fusion}")
    summary = json.loads((runs / fusion / "summary.json").read_text("utf-8"))
    return Result(
        fusion,
        accuracy=summary["test"]["top1"],
        parameters=summary["parameters"]["total"],
        clips_per_s=summary["clips_per_s"],
        data_wait=summary["data_wait"],
        seconds=summary["wall_seconds"],
    )


def _must(exit_code: int, what: str) -> None:
    if exit_code:
        raise UserError(f"the demo stops: {what} ended with exit code {exit_code}, see above")


def _show(results: Sequence[Result], seconds: float) -> None:
    table = Table(
        title=f"held-out videos, 4 classes, chance 25 %, {seconds:.0f} s in all",
        caption="ceiling: what a perfect classifier of these streams reaches; clips/s: in training",
    )
    for column in ("method", "accuracy", "ceiling", "params", "clips/s", "data wait", "time", ""):
        table.add_column(column, justify="left" if column in ("method", "") else "right")
    for result in results:
        table.add_row(
            result.fusion,
            f"{result.accuracy:.1%}",
            f"{CEILINGS[result.fusion]:.0%}",
            f"{result.parameters / 1e6:.2f} M",
            f"{result.clips_per_s:.1f}",
            f"{result.data_wait:.1%}",
            f"{result.seconds:.0f} s",
            "ok" if result.as_expected else "WRONG",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
