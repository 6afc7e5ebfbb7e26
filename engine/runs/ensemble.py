"""Late fusion of finished runs by their scores: python -m engine.runs.ensemble RUN RUN... (eval.py --fuse)."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from common.cli import command_parser, path_type
from common.display import Display
from common.errors import ConfigError, exit_code_of
from configs import Config, load_config
from engine.report.page import page_of, write_page
from engine.runs.records import CONFIG, Accuracy, Parameters, Run
from engine.scoring.fusing import LEVELS, evaluate_scores, fuse
from engine.scoring.predictions import read_predictions
from engine.scoring.reports import PREDICTIONS, metrics_tables, write_reports

ENSEMBLE = "ensemble"  # what stands for a method
NOTES = """\
A RUN is a run's folder, whose predictions of --split are taken, or a folder with predictions.csv itself, such as
runs/rgb/test-10x3. Clips are matched by id and classes by name; other clips, labels or classes are refused. Nothing is
scored again: what is missing, eval.py RUN --split SPLIT writes.

Writes what eval.py writes, by default into runs/rgb+flow/test; the page report.html where the config of the first RUN
is there, which says how its clips are seen. --level softmax is the weighted mean of probabilities,
logits the softmax of the weighted mean of logits; weights are divided by their sum.
"""
EXAMPLES = """\
python -m engine.runs.ensemble runs/rgb runs/flow
python -m engine.runs.ensemble runs/rgb runs/flow --weights 1 1.5 --level logits
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser(
        "engine.runs.ensemble", "Score a split with an ensemble of separately trained runs.", EXAMPLES, notes=NOTES
    )
    parser.add_argument("runs", type=path_type, nargs="+", metavar="RUN", help="folders, two and more")
    parser.add_argument("--weights", type=float, nargs="+", metavar="W", help="one for each RUN (default: all equal)")
    parser.add_argument("--level", choices=LEVELS, default=LEVELS[0], help="what is averaged")
    parser.add_argument("--split", default="test", help="which of the splits that the runs have scored")
    parser.add_argument(
        "-o", "--output", type=path_type, metavar="FOLDER", help="where to write (default: beside the runs)"
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        runs: list[Path] = arguments.runs
        weights = _checked_weights(arguments.weights, len(runs))
        fused = fuse([read_predictions(_scored(run, arguments.split)) for run in runs], weights, arguments.level)
        names = "+".join(run.resolve().name for run in runs)
        folder = arguments.output or runs[0].resolve().parent / names / arguments.split
        config = _config_of(runs[0], names)
        evaluation = evaluate_scores(fused)
        parts = " + ".join(f"{weight:g} x {run}" for weight, run in zip(weights, runs, strict=True))
        write_reports(evaluation, folder, f"{parts}, mean of {arguments.level}")
        if config is not None:
            write_page(page_of(folder), config, None, folder, arguments.split)
        display = Display(arguments.quiet)
        for table in metrics_tables(evaluation, f"{names} on {arguments.split}"):
            display.table(table)
        display.print(f"written to {folder}")
        return 0

    return exit_code_of(work)


def ensemble_of(members: Sequence[Run]) -> Run:
    """The runs of one seed as one, their probabilities averaged, as `fuse` does it.

    Parameters, operations and wall time add up, clips/s is of training one after another, and memory that of the
    largest. Validation accuracies it has none (NaN): a run keeps predictions of its test split alone.
    """
    fused = fuse([member.predictions for member in members if member.predictions is not None])
    metrics = evaluate_scores(fused).metrics
    summaries = [member.summary for member in members]
    seconds = [1 / summary.clips_per_s for summary in summaries]
    waited = sum(summary.data_wait * part for summary, part in zip(summaries, seconds, strict=True))
    changes = {
        "val": Accuracy(top1=math.nan, mean_class=math.nan),
        "test": None if metrics is None else Accuracy(top1=metrics.top1, mean_class=metrics.mean_class),
        "parameters": Parameters(
            total=sum(summary.parameters.total for summary in summaries),
            trainable=sum(summary.parameters.trainable for summary in summaries),
        ),
        "gflops_per_clip": sum(summary.gflops_per_clip for summary in summaries),
        "clips_per_s": 1 / sum(seconds),
        "data_wait": waited / sum(seconds),
        "peak_memory_bytes": max(summary.peak_memory_bytes for summary in summaries),
        "wall_seconds": sum(summary.wall_seconds for summary in summaries),
    }
    first = members[0]
    name = " + ".join(member.stem for member in members)
    config = first.config | {"name": f"{name}-seed{first.config['seed']}", "model": {"fusion": ENSEMBLE}}
    return Run(first.folder.parent, config, first.summary.model_copy(update=changes), fused)


def _scored(run: Path, split: str) -> Path:
    """The folder of a run's scores, or `run` itself where it is such a folder."""
    return run if (run / PREDICTIONS).is_file() else run / split


def _config_of(run: Path, name: str) -> Config | None:
    """The config of a run, or of a folder of its scores, under an ensemble's name; None where it is not there."""
    folders = (run, *run.resolve().parents[:2])
    path = next((folder / CONFIG for folder in folders if (folder / CONFIG).is_file()), None)
    if path is None:
        return None
    config = load_config(path)
    return config.model_copy(update={"name": name, "model": config.model.model_copy(update={"fusion": ENSEMBLE})})


def _checked_weights(weights: Sequence[float] | None, num_runs: int) -> list[float]:
    if num_runs < 2:
        raise ConfigError("--fuse: found one run, allowed: two and more")
    if weights is None:
        return [1.0] * num_runs
    if len(weights) != num_runs or not all(0 <= weight < float("inf") for weight in weights) or not sum(weights):
        found = " ".join(f"{weight:g}" for weight in weights)
        raise ConfigError(
            f"--weights: found {found}, allowed: one for each of the {num_runs} runs, 0 and more, not all 0"
        )
    return list(weights)


if __name__ == "__main__":
    sys.exit(main())
