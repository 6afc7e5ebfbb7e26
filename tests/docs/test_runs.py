"""A run writes what docs/runs.md says: files, keys, curves and pictures."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

import train
from engine.training import gradients
from pipeline.format.split import open_split
from tests import runs
from tests.docs.markdown import ROOT

data, one_thread, shallow = runs.data, runs.one_thread, runs.shallow  # fixtures

DOCUMENT = (ROOT / "docs/runs.md").read_text("utf-8")
PATTERNS = {"loss/<term>": r"loss/\w+", "<head>_dG": r"\w+_dG", "<head>_dO": r"\w+_dO", "<head>_w": r"\w+_w"}


def documented() -> dict[str, set[str]]:
    """The keys that the document gives each kind of line."""
    keys = {}
    for section in DOCUMENT.split("\n### ")[1:]:
        heading, *lines = section.splitlines()
        cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
        for kind in re.findall(r"`(\w+)`:", heading):
            keys[kind] = {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}
    return keys


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def train_in(folder: Path, data: list[str], *overrides: str) -> Path:
    given = (f"runs={folder}", "train.epochs=1", "train.log_every=1", "train.tensorboard=true", *overrides)
    assert train.main(["-c", str(runs.CONFIG), *data, *runs.SMALL, *given, "--quiet"]) == 0
    return folder / "xnorm"


@pytest.fixture(scope="module")
def run(data: list[str], one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a method that prepares itself."""
    folder = tmp_path_factory.mktemp("documented")
    return train_in(folder, data, "model.fusion=gblend", "model.estimation_epochs=1", "loader.batch_size=2")


@pytest.fixture(scope="module")
def skipping(data: list[str], one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one stream alone, on shards with a corrupt clip."""
    folder = tmp_path_factory.mktemp("skipping")
    packed = Path(next(value for value in data if value.startswith("data.shards=")).split("=", 1)[1])
    shutil.copytree(packed, folder / "shards")
    table = open_split(packed / "train").table
    shard = folder / "shards/train/00000.tfrecord"
    content = bytearray(shard.read_bytes())
    content[int(table.offset[table.first_frame[2], 0]) + 50] ^= 1
    shard.write_bytes(content)
    skip = (f"data.shards={folder / 'shards'}", "loader.on_corrupt=skip", "model.fusion=rgb")
    return train_in(folder, data, *skip)


@pytest.fixture(scope="module")
def not_taking(data: list[str], skipping: Path, one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that starts from another one's weights, and whose second step has no finite gradient."""
    norms = iter([False, True, False])
    real = gradients.clip_grad_norm_
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "clip_grad_norm_", lambda *given: real(*given) * (torch.nan if next(norms) else 1))
        start = f"train.init_from={skipping / 'best.pt'}"
        return train_in(tmp_path_factory.mktemp("not_taking"), data, "model.fusion=rgb", start)


def test_each_kind_of_line_has_exactly_the_documented_keys(run: Path, skipping: Path, not_taking: Path) -> None:
    keys, found = documented(), [*lines(run), *lines(skipping), *lines(not_taking)]
    assert {line["kind"] for line in found} == set(keys)
    for line in found:
        kind = line.pop("kind")
        patterns = {PATTERNS.get(key, re.escape(key)) for key in keys[kind]}
        undocumented = [key for key in line if not any(re.fullmatch(pattern, key) for pattern in patterns)]
        unwritten = [pattern for pattern in patterns if not any(re.fullmatch(pattern, key) for key in line)]
        assert (undocumented, unwritten) == ([], []), kind


def test_the_folder_has_exactly_the_documented_files(run: Path) -> None:
    rows = [
        line.split("|")[1] for line in DOCUMENT.split("`tensorboard --logdir")[0].splitlines() if line.startswith("| `")
    ]
    assert {path.name for path in run.iterdir()} == {name for row in rows for name in re.findall(r"`([\w.]+)/?`", row)}


def test_tensorboard_has_every_number_and_the_documented_pictures(run: Path) -> None:
    events = EventMultiplexer().AddRunsFromDirectory(str(run / "tensorboard")).Reload()
    numbers: set[tuple[str, str]] = set()
    for line in lines(run):
        keys = {key for key, value in line.items() if isinstance(value, float)}
        numbers |= {(line["kind"], "top1" if key == "accuracy" else key) for key in keys}
    found = events.Runs().items()
    assert {(kind, tag) for kind, tags in found for tag in tags["scalars"]} == numbers
    pictures = {f"{kind}/{name}": events.Images(kind, name) for kind, tags in found for name in tags["images"]}
    assert {name: [picture.step for picture in shown] for name, shown in pictures.items()} == {
        "train/clips": [1],
        "val/confusion": [6],
    }
    for shown in pictures.values():
        assert shown[0].encoded_image_string.startswith(b"\x89PNG")
        assert min(shown[0].width, shown[0].height) > 100


def test_one_stream_alone_is_shown_too(skipping: Path) -> None:
    events = EventMultiplexer().AddRunsFromDirectory(str(skipping / "tensorboard")).Reload()
    assert events.Images("train", "clips")


def test_without_tensorboard_there_are_no_events_and_the_same_numbers(
    data: list[str], skipping: Path, tmp_path: Path
) -> None:
    same = (f"data.shards={skipping.parent / 'shards'}", "loader.on_corrupt=skip", "model.fusion=rgb")
    run = train_in(tmp_path, data, *same, "train.tensorboard=false")
    assert not (run / "tensorboard").exists()
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [line.get("loss") for line in lines(run)] == [line.get("loss") for line in lines(skipping)]
