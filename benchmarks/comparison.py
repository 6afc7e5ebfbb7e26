"""Writes the tables and pictures of docs/comparison.md from runs of the demo's tasks; no number there is by hand.

    python -m benchmarks.comparison                                # what make compare has trained
    python -m benchmarks.comparison binding=elsewhere/runs --score # another folder; score faults that are not there yet

Every task that is named (all that have runs, unless asked otherwise) gets a section of its own between its markers, and
the summary is made of those. The text around the markers stays as it is.
"""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import demo
import eval as evaluation
from benchmarks.command import argument_parser
from benchmarks.document import replaced
from common.cli import path_type
from common.errors import UserError, exit_code_of
from common.files import atomic_files, atomic_write
from engine.runs.comparison.report import difference_text, draw_comparison, markdown_tables
from engine.runs.comparison.rows import Comparison, Difference, Row, compare, difference, find_runs
from engine.runs.ensemble import ENSEMBLE
from engine.runs.records import SUMMARY, Run
from engine.scoring import robustness
from pipeline.format.streams import STREAMS
from pipeline.profile.report import markdown_table

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT, IMAGES = ROOT / "docs" / "comparison.md", "img"
METHOD = "xnorm"  # whom the document is about
FAULTS = ("rgb:missing", "flow:missing", "flow:delay=4", "rgb:dark=0.5")
SHOWN = ("clip.num_frames", "clip.crop_size", "loader.batch_size", "train.epochs", "train.lr", "model.width")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it went."""
    parser = argument_parser(__doc__)
    parser.add_argument("tasks", nargs="*", type=_task, metavar="TASK=RUNS", help="a task and the folder of its runs")
    parser.add_argument("--score", action="store_true", help="score faults of a stream where that is not done yet")
    parser.add_argument("-o", "--output", type=path_type, default=DOCUMENT, metavar="FILE", help="the document")
    return exit_code_of(partial(_write, parser.parse_args(argv)))


def _task(text: str) -> tuple[str, Path]:
    task, separator, folder = text.partition("=")
    if task not in demo.DEMOS or not separator:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed: {', '.join(demo.DEMOS)}, each with =FOLDER")
    return task, path_type(folder)


def _write(arguments: argparse.Namespace) -> int:
    own = {task: one.load().runs for task, one in demo.DEMOS.items()}
    folders = dict(arguments.tasks) or {task: folder for task, folder in own.items() if _finished(folder)}
    if not folders:
        raise UserError(f"no finished run in {', '.join(map(str, own.values()))}; make compare trains them")
    comparisons = {task: _compare(folder, arguments.score) for task, folder in folders.items()}
    document = arguments.output.read_text("utf-8")
    for task, comparison in comparisons.items():
        document = replaced(document, task, section(task, comparison, folders[task]))
    document = replaced(document, "summary", summary(comparisons))
    images = arguments.output.parent / IMAGES
    images.mkdir(exist_ok=True)
    with atomic_files(images) as create:
        for task, comparison in comparisons.items():
            draw_comparison(comparison, create(picture(task)))
    with atomic_write(arguments.output, "w") as file:
        file.write(document)
    print(f"written to {arguments.output}")
    return 0


def _finished(folder: Path) -> list[Path]:
    return [run for run in find_runs([folder]) if (run / SUMMARY).is_file()]


def _compare(folder: Path, score: bool) -> Comparison:
    comparison = compare(_finished(folder) or [folder])
    if not score:
        return comparison
    for run in (run for row in comparison.rows for run in row.runs if row.fusion not in STREAMS):
        scored = run.folder / f"{run.split}-{robustness.CORRUPT}" / robustness.CORRUPTION
        if (run.folder / SUMMARY).is_file() and not scored.is_file():  # an ensemble has no folder of its own
            print(f"{run.folder} ...", flush=True)
            if evaluation.main([str(run.folder), "--split", run.split, "--quiet", "--corrupt", *FAULTS]):
                raise UserError(f"{run.folder}: eval.py --corrupt failed, see above")
    return compare(_finished(folder))


def picture(task: str) -> str:
    """The name of a task's picture."""
    return f"comparison-{task}.png"


def section(task: str, comparison: Comparison, folder: Path) -> str:
    """A task's tables, its picture, and what was trained on what; the runs in `folder` by their names."""
    notes = [f"{note}.".replace(f"{folder}/", "") for note in comparison.notes]
    return "\n\n".join(
        [
            _setting(comparison),
            markdown_tables(comparison).strip(),
            *notes,
            f"![Accuracy of each method on {task}, with its interval]({IMAGES}/{picture(task)})",
        ]
    )


def _setting(comparison: Comparison) -> str:
    run = max((run for row in comparison.rows for run in row.runs), key=lambda run: len(run.config["model"]))
    budget = ", ".join(f"`{key}={_value(run, key)}`" for key in SHOWN)
    about = run.summary
    trained = [one.summary.wall_seconds for row in comparison.rows if row.fusion != ENSEMBLE for one in row.runs]
    spent = f"{len(trained)} trainings of {fmean(trained) / 60:.1f} minutes on average"
    return f"{budget}; {about.device}, {about.precision}, processes: {about.processes}; {spent}."


def _value(run: Run, key: str) -> object:
    section, _, name = key.partition(".")
    return run.config.get(section, {}).get(name)


def summary(comparisons: Mapping[str, Comparison]) -> str:
    """X-Norm against each other row: differences of accuracy, and in words what they come to."""
    found = {task: against for task, comparison in comparisons.items() if (against := _against(comparison))}
    names = dict.fromkeys(name for differences in found.values() for name in differences)
    cells = [[name, *(_cell(differences.get(name)) for differences in found.values())] for name in names]
    table = markdown_table([f"{METHOD}, points more than", *found], cells)
    return "\n\n".join([table, "\n".join(f"- **{task}**: {_in_words(found[task])}" for task in found)])


def _against(comparison: Comparison) -> dict[str, Difference]:
    own = next((row for row in comparison.rows if row.name == METHOD), None)
    if own is None:
        return {}
    others: list[Row] = [row for row in comparison.settings[own.setting] if row is not own]
    return {row.name: one for row in others if (one := difference(own, row)) is not None}


def _cell(found: Difference | None) -> str:
    return "" if found is None else difference_text(found.mean, *found.interval)


def _in_words(differences: Mapping[str, Difference]) -> str:
    kinds: dict[str, list[str]] = {"ahead of": [], "behind": [], "not told apart from": []}
    for name, found in differences.items():
        kind = "not told apart from" if not found.told_apart else "ahead of" if found.mean > 0 else "behind"
        kinds[kind].append(name)
    return f"{METHOD} is " + "; ".join(f"{kind} {', '.join(names) or 'none'}" for kind, names in kinds.items()) + "."


if __name__ == "__main__":
    sys.exit(main())
