"""What a run says of clips: probabilities by class, as Python values, as CSV and JSON, and as a table to read."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from common.files import atomic_files, make_folder
from engine.scoring.reports import write_csv, write_json
from xnorm.spans import Span

CSV, JSON = "predictions.csv", "predictions.json"


class Score(NamedTuple):
    """A class, by its number and its name (the number as text, where the run knows none), and its probability."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a run says of one clip.

    Attributes:
        span: which part of which video it is.
        logits: float32 [C].
        classes: names of the classes [C]; None where the run knows none.
    """

    span: Span
    logits: Tensor
    classes: Sequence[str] | None

    @property
    def probabilities(self) -> Tensor:
        """The softmax of the logits, float64 [C]."""
        return self.logits.double().softmax(dim=0)

    def top(self, count: int = 5) -> list[Score]:
        """The most likely classes, the likeliest first."""
        return top_scores(self.probabilities, self.classes, count)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run says of the clips of its input: a row of Prediction, in their order.

    Attributes:
        spans: the N clips.
        logits: float32 [N, C].
        classes: names of the classes [C]; None where the run knows none.
        notes: what of the input was mended, or may not be as it was meant.
    """

    spans: Sequence[Span]
    logits: Tensor
    classes: Sequence[str] | None
    notes: Sequence[str] = field(default=())

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> Prediction:
        return Prediction(self.spans[index], self.logits[index], self.classes)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[number] for number in range(len(self)))

    @property
    def probabilities(self) -> Tensor:
        """The softmax of the logits, float64 [N, C]."""
        return self.logits.double().softmax(dim=1)

    def top(self, count: int = 5) -> list[Score]:
        """The most likely classes of all clips together, by the mean of their probabilities."""
        return top_scores(self.probabilities.mean(dim=0), self.classes, count)


def top_scores(probabilities: Tensor, classes: Sequence[str] | None, count: int) -> list[Score]:
    """The `count` likeliest of probabilities [C], or all where there are fewer."""
    values, labels = probabilities.topk(min(count, len(probabilities)))
    return [
        Score(label, str(label) if classes is None else classes[label], value)
        for label, value in zip(labels.tolist(), values.tolist(), strict=True)
    ]


def joined(predictions: Sequence[Predictions]) -> Predictions:
    """The predictions of several inputs by one run as those of one."""
    spans = [span for each in predictions for span in each.spans]
    notes = [note for each in predictions for note in each.notes]
    return Predictions(spans, torch.cat([each.logits for each in predictions]), predictions[0].classes, notes)


def write_predictions(predictions: Predictions, folder: Path, about: dict[str, Any], count: int) -> None:
    """Write predictions.csv, with the probabilities of all classes, and predictions.json, with the `count` likeliest.

    `about` is what predictions.json says of the run. Both files are of one prediction wherever they are.

    Raises:
        UserError: the folder cannot be written to.
    """
    clips = [asdict(each.span) | {"top": _as_dicts(each, count)} for each in predictions]
    content = {**about, "classes": predictions.classes, "notes": list(predictions.notes), "clips": clips}
    make_folder(folder)
    with atomic_files(folder) as create:
        write_json(create(JSON, "w"), content)
        rows = (_row(each) for each in predictions)
        named = [] if predictions.classes is None else ["prediction_name"]
        scores = [f"score_{label}" for label in range(predictions.logits.shape[1])]
        write_csv(create(CSV, "w"), [*Span.__dataclass_fields__, "prediction", *named, *scores], rows)


def _as_dicts(prediction: Prediction, count: int) -> list[dict[str, Any]]:
    names = () if prediction.classes is None else ("name",)
    return [{key: score._asdict()[key] for key in ("label", *names, "probability")} for score in prediction.top(count)]


def _row(prediction: Prediction) -> list[Any]:
    best = int(prediction.logits.argmax())
    times = {key: "" if value is None else value for key, value in asdict(prediction.span).items()}
    named = [] if prediction.classes is None else [prediction.classes[best]]
    return [*times.values(), best, *named, *(f"{score:.9g}" for score in prediction.probabilities.tolist())]


def prediction_table(predictions: Predictions, title: str, count: int) -> Table:
    """The likeliest classes of each clip, a line each."""
    table = Table(title=escape(title))
    for column in ("clip", "time"):
        table.add_column(column)
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    for each in predictions:
        scores = each.top(count)
        for place, score in enumerate(scores, 1):
            clip = (escape(each.span.clip), time_text(each.span)) if place == 1 else ("", "")
            is_last = place == len(scores)
            table.add_row(*clip, escape(score.name), f"{score.probability:.1%}", end_section=is_last)
    return table


def time_text(span: Span) -> str:
    """When a clip is, in seconds where they are known, else in frames."""
    if span.start is None and span.stop is None:
        return f"frames {span.start_frame} to {span.stop_frame}"
    start = f"{span.start or 0:.2f}"
    return f"{start} s to the end" if span.stop is None else f"{start} to {span.stop:.2f} s"
