"""docs/example/ is what the commands of docs/example.py wrote together, and its videos move as their labels say."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from docs import example
from preprocess.videos.optical_flow import flow_method


@pytest.mark.parametrize("move", example.MOVES)
def test_a_texture_moves_as_its_label_says(move: str) -> None:
    frames = list(example._frames([move], np.random.default_rng(0)))
    assert len(frames) == example.RATE
    one, other = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[:2])
    found = np.median(flow_method("dis")(one, other), axis=(0, 1))
    assert found == pytest.approx(example.MOVES[move], abs=0.3)


def test_the_tables_are_of_one_prediction_by_name() -> None:
    content = json.loads((example.KEPT / "predictions.json").read_text())
    with open(example.KEPT / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert content["classes"] == sorted(example.MOVES)
    assert [row["prediction_name"] for row in rows] == [clip["top"][0]["name"] for clip in content["clips"]]
    assert [float(row["start"]) for row in rows] == pytest.approx([0, 0.5, 1, 1.5, 2])


def test_the_card_has_its_fields_and_no_path_of_a_machine() -> None:
    card = (example.KEPT / "model-card.md").read_text()
    assert card.startswith("---\nlicense: cc0-1.0\n")
    for text in ("- label: left, right, up", "top-1 ", "| the training data | synthetic, by docs/example.py |"):
        assert text in card
    assert not [part for part in ("/tmp/", "/home/", "/root/") if part in card]


def test_the_captioned_video_is_short_and_moves() -> None:
    path: Path = example.KEPT / "captioned.gif"
    assert path.stat().st_size < 500_000
    with Image.open(path) as image:
        assert image.n_frames == -(-3 * example.RATE // example.GIF_STEP)
        first = np.asarray(image.convert("L"), dtype=int)
        image.seek(image.n_frames - 1)
        assert np.abs(np.asarray(image.convert("L"), dtype=int) - first).mean() > 1
