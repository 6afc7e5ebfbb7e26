"""The page of a run: what was trained on what, its curves, its classes, its mistakes as moving clips."""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError
from common.files import atomic_write
from common.palette import FAINT, TEST, TRAINING, VALIDATION
from configs.schema import Config
from engine.report.charts import draw_curves
from engine.report.clips import draw_strips
from engine.report.html import render
from engine.report.scores import ScoredClip, Scores
from engine.runs.curves import SHARED
from engine.runs.metrics_log import LOG, read_log
from engine.runs.records import CONFIG, SUMMARY, commonest_share
from engine.scoring.predictions import read_predictions
from engine.scoring.reports import METRICS

PAGE = "report.html"
NUM_CLIPS = 20  # surest mistakes, and as many of the least sure hits
MOST_CELLS = 24  # classes whose confusion matrix can be read as a table
MOST_PAIRS = 20  # of classes that are taken for one another
LEGEND = list(zip(SHARED, (FAINT, TRAINING, VALIDATION, TEST), strict=True))  # of all curves
MOST_BARS = 24  # classes of the histogram; the table below has them all


class ScoredTarget(NamedTuple):
    """What was scored of a target.

    Attributes:
        name: "" where there is one alone.
        metrics: the content of its metrics.json.
        matrix: an image of its confusion matrix, where that is too large for a table.
        trained: training clips of its classes, by name.
    """

    name: str
    scores: Scores
    metrics: Mapping[str, Any]
    matrix: str | None
    trained: Mapping[str, int]

    @property
    def mistakes(self) -> Sequence[ScoredClip]:
        """Those that are shown, the surest first."""
        return self.scores.mistakes[:NUM_CLIPS]

    @property
    def hits(self) -> Sequence[ScoredClip]:
        """Those that are shown, the least sure first."""
        return self.scores.hits[:NUM_CLIPS]


def write_page(path: Path, config: Config, run: Path | None, scored: Path | None, split: str) -> None:
    """Write a page about `run`, a run's folder, and about `scored`, a folder of scores of `split`; either may be None.

    All but the clips is read from those two folders; where the shards are gone, it says so instead.

    Raises:
        UserError: a file in these folders is damaged, or the page cannot be written.
    """
    about = _about_run(run)
    summary = about["summary"] or {}
    targets = list(_read_scores(scored, summary)) if scored else []
    limits = {"most_bars": MOST_BARS, "most_cells": MOST_CELLS, "most_pairs": MOST_PAIRS}
    whole = {"title": config.name, "config": config, "split": split, "legend": LEGEND, **limits, **about}
    whole |= {"metrics": _read_json(scored / METRICS) if scored else None, "targets": targets}
    whole |= {"chance": commonest_share(summary, split if scored else "val"), **_clips(config, split, targets)}
    with atomic_write(path, "w") as file:
        file.write(render("run.html", **whole))


def page_of(scored: Path) -> Path:
    """Where the page of a folder of scores goes: into the run's, of its best weights on the test split; else beside."""
    return (scored.parent if scored.name == "test" and (scored.parent / CONFIG).is_file() else scored) / PAGE


def _about_run(run: Path | None) -> dict[str, Any]:
    """What a run's folder says: its config, its log as curves and as a table, and its summary."""
    nothing: dict[str, Any] = {"run_config": None, "summary": None, "curves": [], "epochs": []}
    if run is None or not (run / CONFIG).is_file():
        return nothing
    summary = _read_json(run / SUMMARY) if (run / SUMMARY).is_file() else None
    log = read_log(run / LOG)
    return nothing | {
        "run_config": (run / CONFIG).read_text("utf-8"),
        "summary": summary,
        "curves": list(draw_curves(log, commonest_share(summary or {}))) if log else [],
        "epochs": _by_epoch(log),
    }


def _by_epoch(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The numbers of each epoch, for those who cannot see curves."""
    trained = {record["epoch"]: record for record in log if record["kind"] == "epoch"}
    validated = {record["epoch"]: record for record in log if record["kind"] == "val"}
    return [{"epoch": epoch, "train": trained[epoch], "val": validated.get(epoch, {})} for epoch in sorted(trained)]


def _read_scores(scored: Path, summary: Mapping[str, Any]) -> Iterator[ScoredTarget]:
    """What a folder of scores says of each target."""
    trained = summary.get("data", {}).get("train", {}).get("classes", {})
    names = _read_json(scored / METRICS).get("targets") or [None]
    for name in names:
        folder = scored if name is None else scored / Path(str(name)).name
        scores = Scores.of(read_predictions(folder))
        matrix, picture = None, folder / "confusion.png"
        if len(scores.names) > MOST_CELLS and picture.is_file():
            matrix = f"data:image/png;base64,{b64encode(picture.read_bytes()).decode()}"
        clips = trained.get(name, next(iter(trained.values()), {}))
        yield ScoredTarget(name or "", scores, _read_json(folder / METRICS), matrix, clips)


def _clips(config: Config, split: str, targets: Sequence[ScoredTarget]) -> dict[str, Any]:
    """The moving images of the clips that are shown, or why there are none."""
    shown = [clip.clip_id for target in targets for clip in (*target.mistakes, *target.hits)]
    try:
        return {"strips": draw_strips(config, split, shown) if shown else {}, "no_strips": ""}
    except UserError as error:
        return {"strips": {}, "no_strips": str(error)}


def _read_json(path: Path) -> Mapping[str, Any]:
    """What a run or a scoring wrote there.

    Raises:
        UserError: it is damaged.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged (no object)")
    return content
