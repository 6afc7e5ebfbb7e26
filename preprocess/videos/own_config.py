"""The config that extract.py writes: defaults for data other than EPIC-KITCHENS."""

import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from preprocess.videos.splits import Labelled

BATCH_SIZES = (32, 16, 8, 4, 2)
MIN_STEPS = 3  # per epoch: batches are full ones
MIN_UPDATES, MAX_EPOCHS = 600, 200  # over the whole training
EPOCHS, LR_PATIENCE, STOP_PATIENCE = 50, 3, 8  # of base.yaml
LARGE_SIDE = 336  # pixels: of frames whose short side is longer, a crop of 224 is less than two thirds
WIDE_CROPS = [0.7, 1.0]


def own_config(folder: Path, paths: Mapping[str, Path], labelled: Labelled, short_sides: Sequence[int]) -> str:
    """A config of the data below `folder`, of these short sides, on top of base.yaml."""
    folder = Path(os.path.abspath(folder))  # so that it holds wherever a command runs
    num_clips = len(labelled.splits.get("train", ()))
    content: dict[str, Any] = {
        "name": run_name(folder.name),
        "data": {
            "frames": str(folder / "frames"),
            "annotations": {split: [os.path.abspath(path)] for split, path in paths.items()},
            "preset": "none",
            "shards": str(folder / "shards"),
            "frames_per_clip": "all",
        },
        "clip": {"scale": WIDE_CROPS} if max(short_sides) > LARGE_SIDE else {},
        "loader": {"batch_size": batch_size(num_clips)},
        "model": {"num_classes": max(2, labelled.num_classes)},
        "train": _duration(num_clips),
    }
    head = "# One's own data, as preprocess/extract.py left it; keys that are not here have their defaults.\n"
    return head + yaml.safe_dump(
        {key: part for key, part in content.items() if part}, sort_keys=False, allow_unicode=True
    )


def run_name(name: str) -> str:
    """A folder's name as a run's: letters, digits, dots, underscores and hyphens."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).lstrip("._-").rstrip("-") or "own"


def batch_size(num_clips: int) -> int:
    """The largest batch that these training clips fill a few times."""
    return next((size for size in BATCH_SIZES if num_clips // size >= MIN_STEPS), max(1, min(2, num_clips)))


def _duration(num_clips: int) -> dict[str, int]:
    """Epochs for enough steps, patience in proportion; nothing where defaults do."""
    steps = max(1, num_clips // batch_size(num_clips))
    epochs = min(MAX_EPOCHS, math.ceil(MIN_UPDATES / steps))
    if epochs <= EPOCHS:
        return {}
    return {
        "epochs": epochs,
        "lr_patience": round(LR_PATIENCE * epochs / EPOCHS),
        "stop_patience": round(STOP_PATIENCE * epochs / EPOCHS),
    }
