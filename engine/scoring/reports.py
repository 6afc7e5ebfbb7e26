"""Reports of an evaluation: metrics, predictions, per-class table, confusion matrix and its image."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from rich.markup import escape
from rich.table import Table

from common.files import Create, atomic_files, make_folder
from engine.scoring.actions import Actions
from engine.scoring.epic import EPIC_FILE, SUBMISSION_FILE, Submission, write_epic, write_submission
from engine.scoring.evaluation import Evaluation, Metrics
from engine.scoring.plots import MOST_NUMBERED, draw_confusion, draw_frequency
from models.targets import ACTION

METRICS, PREDICTIONS = "metrics.json", "predictions.csv"
SHOWN = 10  # pairs of classes that are confused, in a table


def summarize(evaluation: Evaluation) -> dict[str, float | None]:
    """Return the numbers of an evaluation that fit on a line; None for what needs labels that clips do not have."""
    numbers = {"loss": evaluation.loss, **_accuracies(evaluation.main)}
    parts: dict[str, Metrics | Actions | None] = {name: one.metrics for name, one in evaluation.targets.items()}
    parts |= {ACTION: evaluation.actions} if evaluation.actions else {}
    for name, metrics in parts.items():
        numbers |= {f"{name}_{key}": value for key, value in _accuracies(metrics).items()}
    for name, mask in evaluation.masks.items():
        one = evaluation.targets.get(
            name.rpartition("_")[2], evaluation
        )  # of unseen_verb; what is no target is actions
        counted = one.hits[mask & one.known]
        numbers[f"{name}_top1"] = float(counted.double().mean()) if len(counted) else None
    return {**numbers, "clips_per_s": evaluation.clips_per_s}


def _accuracies(metrics: Metrics | Actions | None) -> dict[str, float | None]:
    return {key: getattr(metrics, key, None) for key in ("top1", "top5", "mean_class")}


def write_reports(
    evaluation: Evaluation, folder: Path, checkpoint: str = "best.pt", epic: Submission | None = None
) -> None:
    """Write metrics.json, predictions.csv, per_class.csv, confusion.csv, confused.csv and images into `folder`.

    `checkpoint` says whose scores they are: the file's of the weights, or what was fused. `epic` adds epic.pt, for the
    challenge's own code, and its submission. Where metrics.json is, all are of one scoring. Where no clip has a label,
    there are the first two alone. Several targets have a folder each, beside metrics.json of all, and actions.csv.

    Raises:
        UserError: the folder cannot be written to.
    """
    views = evaluation.multi_view
    about: dict[str, Any] = {"checkpoint": checkpoint, "clips": len(evaluation.labels)}
    about |= {"views": views.num_temporal, "crops": views.num_spatial} if views else {}
    about |= {"targets": list(evaluation.targets)} if evaluation.targets else {}
    about["classes"] = list(evaluation.classes) if evaluation.classes else None
    for name, one in evaluation.targets.items():
        write_reports(one, folder / name, checkpoint)
    make_folder(folder)
    with atomic_files(folder) as create:  # together: scores of one evaluation never stand beside those of another
        write_json(create(METRICS, "w"), summarize(evaluation) | about)
        if evaluation.actions is not None:
            _write_actions(evaluation, evaluation.actions, create("actions.csv", "w"))
        if not evaluation.targets:
            _write_target(evaluation, create)
        if epic is not None:
            write_epic(evaluation, create(EPIC_FILE))
            if evaluation.actions is not None:
                write_submission(evaluation, epic, create(SUBMISSION_FILE))


def _write_target(evaluation: Evaluation, create: Create) -> None:
    metrics, names = evaluation.metrics, evaluation.classes
    _write_predictions(evaluation, create(PREDICTIONS, "w"))
    if metrics is not None:
        _write_per_class(metrics, names, create("per_class.csv", "w"))
        _write_confusion(metrics, create("confusion.csv", "w"))
        _write_confused(metrics, names, create("confused.csv", "w"))
        draw_confusion(metrics, create("confusion.png"), names)
        if len(metrics.per_class) > MOST_NUMBERED:
            draw_frequency(metrics, create("frequency.png"), names)


def scored_checkpoint(folder: Path) -> str | None:
    """Whose scores are in `folder`: the name of a checkpoint, or None where there are none."""
    path = folder / METRICS
    try:
        return str(json.loads(path.read_text("utf-8")).get("checkpoint", "another version"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RecursionError):
        return "a damaged metrics.json"


def write_json(file: IO[str], content: dict[str, Any]) -> None:
    """Write `content` for people, too."""
    json.dump(content, file, indent=2)
    file.write("\n")


def write_csv(file: IO[str], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, its lines ended as on Unix."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def metrics_tables(evaluation: Evaluation, title: str) -> list[Table]:
    """Tables for the terminal: of one target its classes; of several what each comes to and what is confused most."""
    if not evaluation.targets:
        return [] if evaluation.metrics is None else [_class_table(evaluation, evaluation.metrics, title)]
    loss = None if evaluation.loss is None else f"loss {evaluation.loss:.4f}"
    numbers = summarize(evaluation)
    names = [*evaluation.targets, *([ACTION] if evaluation.actions else [])]
    table = Table(title=title, caption=loss)
    table.add_column("")
    for column in ("top-1", "top-5", "mean-class", "unseen", "tail"):
        table.add_column(column, justify="right")
    for name in names:
        keys = (f"{name}_top1", f"{name}_top5", f"{name}_mean_class", f"unseen_{name}_top1", f"tail_{name}_top1")
        values = (numbers.get(key) for key in keys)
        table.add_row(name, *("-" if value is None else f"{value:.1%}" for value in values))
    confused = (_confused_table(name, one) for name, one in evaluation.targets.items())
    return [table, *(one for one in confused if one is not None)]


def _confused_table(target: str, evaluation: Evaluation) -> Table | None:
    if evaluation.metrics is None:
        return None
    names = evaluation.classes or [str(number) for number in range(len(evaluation.metrics.per_class))]
    table = Table(title=f"{target}: confused most")
    for column in ("label", "prediction", "clips"):
        table.add_column(column, justify="right" if column == "clips" else "left")
    for label, prediction, clips in worst_confusions(evaluation.metrics)[:SHOWN]:
        table.add_row(escape(names[label]), escape(names[prediction]), str(clips))
    return table


def _class_table(evaluation: Evaluation, metrics: Metrics, title: str) -> Table:
    """One row per class, the split's metrics below."""
    top5 = "" if metrics.top5 is None else f"  top-5 {metrics.top5:.1%}"
    loss = "" if evaluation.loss is None else f"  loss {evaluation.loss:.4f}"
    summary = f"top-1 {metrics.top1:.1%}{top5}  mean-class {metrics.mean_class:.1%}{loss}"
    table = Table(title=title, caption=summary)
    for column in ("label", "clips", "correct", "accuracy"):
        table.add_column(column, justify="right")
    if evaluation.classes:
        table.add_column("name")
    clips, correct = metrics.confusion.sum(dim=1).tolist(), metrics.confusion.diagonal().tolist()
    for label, accuracy in enumerate(metrics.per_class):
        share = "-" if accuracy is None else f"{accuracy:.1%}"
        name = [escape(evaluation.classes[label])] if evaluation.classes else []
        table.add_row(str(label), str(clips[label]), str(correct[label]), share, *name)
    return table


def _write_predictions(evaluation: Evaluation, file: IO[str]) -> None:
    """One line per clip in the split's order; the scores are probabilities, the softmax of the logits."""
    scores = evaluation.logits.double().softmax(dim=1)
    predictions = evaluation.logits.argmax(dim=1).tolist()
    names = evaluation.classes
    header = ["clip_id", "label", "prediction", *(["label_name", "prediction_name"] if names else [])]
    clips = zip(evaluation.clip_ids, evaluation.labels.tolist(), predictions, scores.tolist(), strict=True)

    def named(label: int, prediction: int) -> list[str]:
        return [names[label] if label >= 0 else "", names[prediction]] if names else []

    rows = (
        [clip, label, prediction, *named(label, prediction), *(f"{score:.9g}" for score in row)]
        for clip, label, prediction, row in clips
    )
    write_csv(file, [*header, *(f"score_{label}" for label in range(scores.shape[1]))], rows)


def _write_actions(evaluation: Evaluation, actions: Actions, file: IO[str]) -> None:
    """One line per clip: its verb and noun, and those of the likeliest pairs, the likeliest first."""
    places = range(1, actions.best.shape[1] + 1)
    header = ["clip_id", "verb", "noun", *(f"{name}_{place}" for place in places for name in ("verb", "noun"))]
    clips = zip(evaluation.clip_ids, actions.labels.tolist(), actions.best.flatten(1).tolist(), strict=True)
    write_csv(file, header, ([clip, *label, *best] for clip, label, best in clips))


def worst_confusions(metrics: Metrics) -> list[tuple[int, int, int]]:
    """Return (label, prediction, clips) for all that is confused, the most clips first."""
    wrong = metrics.confusion.clone().fill_diagonal_(0)
    pairs = [(label, prediction, int(wrong[label, prediction])) for label, prediction in wrong.nonzero().tolist()]
    return sorted(pairs, key=lambda pair: (-pair[2], pair))


def _write_confused(metrics: Metrics, names: Sequence[str] | None, file: IO[str]) -> None:
    """The pairs of classes that are confused, the most clips first; the share is of the label's clips."""
    clips = metrics.confusion.sum(dim=1).tolist()
    header = ["label", "prediction", "clips", "share", *(["label_name", "prediction_name"] if names else [])]
    rows = (
        [label, prediction, count, f"{count / clips[label]:.4g}", *((names[label], names[prediction]) if names else ())]
        for label, prediction, count in worst_confusions(metrics)
    )
    write_csv(file, header, rows)


def _write_per_class(metrics: Metrics, names: Sequence[str] | None, file: IO[str]) -> None:
    num_clips = metrics.confusion.sum(dim=1).tolist()
    num_predicted = metrics.confusion.sum(dim=0).tolist()
    correct = metrics.confusion.diagonal().tolist()
    rows = zip(range(len(correct)), num_clips, num_predicted, correct, metrics.per_class, strict=True)
    header = ["label", "clips", "predicted", "correct", "accuracy", *(["name"] if names else [])]
    write_csv(file, header, ([*row, *([names[row[0]]] if names else [])] for row in rows))


def _write_confusion(metrics: Metrics, file: IO[str]) -> None:
    rows = metrics.confusion.tolist()
    header = ["label", *(f"predicted_{label}" for label in range(len(rows)))]
    write_csv(file, header, ([label, *row] for label, row in enumerate(rows)))
