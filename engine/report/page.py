"""The page of a run: what was trained on what, its curves, its classes, its mistakes as moving clips."""

import json
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import atomic_write
from common.palette import FAINT, TEST, TRAINING, VALIDATION
from configs.schema import Config
from engine.report.charts import draw_curves
from engine.report.clips import draw_strips
from engine.report.html import render
from engine.report.scores import Scores
from engine.runs.curves import SHARED, read_log
from engine.runs.records import CONFIG, SUMMARY, commonest_share
from engine.scoring.predictions import read_predictions, target_folder
from engine.scoring.reports import METRICS

PAGE = "report.html"
NUM_CLIPS = 20  # surest mistakes, and as many of the least sure hits
MOST_CELLS = 24  # classes whose confusion matrix can be read as a table
MOST_PAIRS = 20  # of classes that are taken for one another
LEGEND = list(zip(SHARED, (FAINT, TRAINING, VALIDATION, TEST), strict=True))  # of all curves
MOST_BARS = 24  # classes of the histogram; the table below has them all


def write_page(path: Path, config: Config, run: Path | None, scored: Path | None, split: str) -> None:
    """Write a page about `run`, a run's folder, and about `scored`, a folder of scores of `split`; either may be None.

    All but the clips is read from those two folders; where the shards are gone, it says so instead.

    Raises:
        UserError: a file in these folders is damaged, or the page cannot be written.
    """
    whole = {"title": config.name, "config": config, "split": split, **_about_run(run), **_about_scores(scored)}
    whole |= _clips(config, split, whole["scores"])
    whole |= {"most_bars": MOST_BARS, "most_cells": MOST_CELLS, "most_pairs": MOST_PAIRS, "legend": LEGEND}
    whole |= _classes(whole["summary"], split if scored else "val")
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
    log = read_log(run / "metrics.jsonl") if (run / "metrics.jsonl").is_file() else []
    return nothing | {
        "run_config": (run / CONFIG).read_text("utf-8"),
        "summary": summary,
        "curves": list(draw_curves(log, commonest_share(summary or {}))) if log else [],
        "epochs": _by_epoch(log),
    }


def _classes(summary: Mapping[str, Any] | None, split: str) -> dict[str, Any]:
    """Training clips by class, of the first target, and the accuracy of always saying the commonest class."""
    classes = (summary or {}).get("data", {}).get("train", {}).get("classes", {})
    return {"trained": next(iter(classes.values()), {}), "chance": commonest_share(summary or {}, split)}


def _by_epoch(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The numbers of each epoch, for those who cannot see curves."""
    trained = {record["epoch"]: record for record in log if record["kind"] == "epoch"}
    validated = {record["epoch"]: record for record in log if record["kind"] == "val"}
    return [{"epoch": epoch, "train": trained[epoch], "val": validated.get(epoch, {})} for epoch in sorted(trained)]


def _about_scores(scored: Path | None) -> dict[str, Any]:
    """What a folder of scores says."""
    if scored is None:
        return {"scores": None, "metrics": None, "matrix": None}
    scored = target_folder(scored)
    predictions, metrics = read_predictions(scored), _read_json(scored / METRICS)
    scores = Scores.of(predictions)
    picture = scored / "confusion.png"
    matrix = None
    if len(scores.names) > MOST_CELLS and picture.is_file():
        matrix = f"data:image/png;base64,{b64encode(picture.read_bytes()).decode()}"
    return {"scores": scores, "metrics": metrics, "matrix": matrix}


def _clips(config: Config, split: str, scores: Scores | None) -> dict[str, Any]:
    """The clips that are shown, and their moving images or why there are none."""
    mistakes, hits = (scores.mistakes[:NUM_CLIPS], scores.hits[:NUM_CLIPS]) if scores else ([], [])
    shown: dict[str, Any] = {"mistakes": mistakes, "hits": hits, "strips": {}, "no_strips": ""}
    try:
        if mistakes or hits:
            shown["strips"] = draw_strips(config, split, [clip.clip_id for clip in (*mistakes, *hits)])
    except UserError as error:
        shown["no_strips"] = str(error)
    return shown


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
