"""A run's folder as train.py leaves it, written without training: random scores, two epochs, names that HTML minds."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from configs import Config, load_config
from engine.runs.checkpoint import plain_config
from engine.scoring.evaluation import Evaluation, compute_metrics
from engine.scoring.reports import write_reports
from pipeline.format.split import open_split
from pipeline.views import SINGLE_VIEW
from tests.runs import CONFIG, SMALL

NAMES = ["<script>alert('class')</script>", 'take "two" & <b>cut</b>', "pour", "open", "close", "wash"]
LOGGED = {"lr": 0.1, "loss": 2.0, "accuracy": 0.5, "grad_norm": 1.0, "clips_per_s": 9.0, "data_wait": 0.1}


def write_run(folder: Path, data: list[str]) -> Config:
    """Write the folder of a finished run whose test split is scored; return its config."""
    config = load_config(CONFIG, [*data, *SMALL, f"runs={folder}", "name=reported"])
    run = config.runs / config.name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(plain_config(config)))
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in _log()))
    (run / "summary.json").write_text(json.dumps(_summary()))
    write_scores(config, run / "test")
    return config


def write_scores(config: Config, folder: Path, split: str = "test") -> None:
    """Score a split at random."""
    packed = open_split(config.data.shards / split)
    clip_ids, labels = [clip_id.decode() for clip_id in packed.table.clip_id], torch.from_numpy(packed.labels)
    logits = torch.randn(len(labels), len(NAMES), generator=torch.Generator().manual_seed(1))
    metrics = compute_metrics(logits, labels)
    write_reports(Evaluation(clip_ids, labels, logits, 1.0, 9.0, SINGLE_VIEW, metrics, NAMES), folder)


def _log() -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = []
    for epoch in (1, 2):
        where = {"epoch": epoch, "step": 3 * epoch}
        log.append({"kind": "epoch", **where, **LOGGED})
        log.append({"kind": "val", **where, "loss": 1.5, "top1": 0.5, "top5": None, "mean_class": 0.5})
    return [*log, {"kind": "test", "epoch": 1, "step": 6, "loss": 1.0, "top1": 0.4, "mean_class": 0.4}]


def _summary() -> dict[str, Any]:
    counts = dict(zip(NAMES, (4, 4, 4, 0, 0, 0), strict=True))
    return {
        "val": {"top1": 0.5, "mean_class": 0.5},
        "best_epoch": 1,
        "epochs": 2,
        "steps": 6,
        "stopped_early": False,
        "clips_per_s": 9.0,
        "data_wait": 0.1,
        "wall_seconds": 61.0,
        "peak_memory_bytes": 2**30,
        "parameters": {"total": 3_000_000, "trainable": 2_000_000},
        "gflops_per_clip": 12.5,
        "device": "a CPU",
        "precision": "fp32",
        "processes": 1,
        "versions": {"python": "3.11", "torch": "2.14"},
        "data": {split: {"clips": 12, "classes": {"label": counts}} for split in ("train", "val", "test")},
    }
