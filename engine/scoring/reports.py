"""Reports of an evaluation: metrics, predictions, per-class table, confusion matrix and its image."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from rich.markup import escape
from rich.table import Table

from common.files import atomic_files, make_folder
from engine.scoring.epic import EPIC_FILE, write_epic
from engine.scoring.evaluation import Evaluation, Metrics
from engine.scoring.plots import draw_confusion

METRICS, PREDICTIONS = "metrics.json", "predictions.csv"


def summarize(evaluation: Evaluation) -> dict[str, float | None]:
    """Return the numbers of an evaluation that fit on a line; None for what needs labels that clips do not have."""
    accuracies = {key: getattr(evaluation.metrics, key, None) for key in ("top1", "top5", "mean_class")}
    return {"loss": evaluation.loss, **accuracies, "clips_per_s": evaluation.clips_per_s}


def write_reports(evaluation: Evaluation, folder: Path, checkpoint: str = "best.pt", epic: bool = False) -> None:
    """Write metrics.json, predictions.csv, per_class.csv, confusion.csv and confusion.png into `folder`.

    `checkpoint` says whose scores they are: the file's of the weights, or what was fused. `epic` adds epic.pt, for the
    challenge's own code. Where metrics.json is, all are of one scoring. Where no clip has a label, there are the
    first two alone.

    Raises:
        UserError: the folder cannot be written to.
    """
    views = evaluation.multi_view
    about: dict[str, Any] = {"checkpoint": checkpoint, "clips": len(evaluation.labels)}
    about |= {"views": views.num_temporal, "crops": views.num_spatial} if views else {}
    about["classes"] = list(evaluation.classes) if evaluation.classes else None
    make_folder(folder)
    with atomic_files(folder) as create:  # together: scores of one evaluation never stand beside those of another
        write_json(create(METRICS, "w"), summarize(evaluation) | about)
        _write_predictions(evaluation, create(PREDICTIONS, "w"))
        if evaluation.metrics is not None:
            _write_per_class(evaluation.metrics, evaluation.classes, create("per_class.csv", "w"))
            _write_confusion(evaluation.metrics, create("confusion.csv", "w"))
            draw_confusion(evaluation.metrics, create("confusion.png"), evaluation.classes)
        if epic:
            write_epic(evaluation, create(EPIC_FILE))


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


def metrics_table(evaluation: Evaluation, metrics: Metrics, title: str) -> Table:
    """A table for the terminal: one row per class, the split's metrics below."""
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
