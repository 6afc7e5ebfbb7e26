"""Packed splits of a few tiny clips, and command lines small enough to train on them in a second."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from configs import Config, load_config
from engine.runs.checkpoint import load_checkpoint
from models.trunks.i3d import I3D
from preprocess import pack
from tests.trees import Video, write_annotations, write_video

CONFIG = Path(__file__).parents[1] / "configs" / "base.yaml"
CLIPS = ((1, 16, 0), (17, 32, 1), (33, 48, 2))
SPLITS = {  # 12, 6 and 3 clips of 64 x 96 pixels
    "train": [Video(f"P01_{n:02d}", num_frames=48, clips=CLIPS) for n in range(1, 5)],
    "val": [Video(f"P02_{n:02d}", num_frames=48, clips=CLIPS) for n in range(1, 3)],
    "test": [Video("P03_01", num_frames=48, clips=CLIPS)],
}
SMALL = (  # without TensorBoard, whose pictures take longer than the steps
    *("clip.num_frames=8", "clip.crop_size=32", "loader.batch_size=4", "loader.num_threads=1"),
    *("model.width=0.05", "model.hidden_size=8", "model.num_classes=6", "train.epochs=2", "train.log_every=2"),
    "train.tensorboard=false",
)
SHALLOW = (  # of I3D: all its pooling, and the first stages of each kind; X-Norm exchanges after the mixed ones
    *("Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "MaxPool3d_3a_3x3"),
    *("Mixed_3b", "MaxPool3d_4a_3x3", "Mixed_4d", "MaxPool3d_5a_2x2", "Mixed_5c"),
)

# What a run that is killed and resumed may have otherwise than one that never was: all of it is time or memory.
TIMES = {"clips_per_s", "data_wait", "seconds", "wait", "wall_seconds"} | {
    f"peak_memory{unit}" for unit in ("", "_mib", "_bytes")
}

MakeArguments = Callable[..., list[str]]
MakeConfig = Callable[..., Config]


def make_data(folder: Path) -> list[str]:
    """Write and pack a train, val and test split; return the overrides that name them."""
    names = []
    for split, videos in SPLITS.items():
        for video in videos:
            write_video(folder / "frames", video)
        names.append(f"{split}: [{write_annotations(folder / f'{split}.csv', videos)}]")
    overrides = [
        *("data.preset=none", "data.workers=1", f"data.frames={folder / 'frames'}", f"data.shards={folder / 'shards'}"),
        f"data.annotations={{{', '.join(names)}}}",
    ]
    assert pack.main(["-c", str(CONFIG), *overrides]) == 0
    return overrides


def metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's log, without what is different each time."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def difference(one: Path, other: Path) -> str | None:
    """What of two finished runs is not the same: weights and optimizer bit by bit, all that is written but times."""
    if metrics(one) != metrics(other):
        return "metrics.jsonl"
    for name in ("predictions.csv", "per_class.csv", "confusion.csv", "confusion.png"):
        if (one / "test" / name).read_bytes() != (other / "test" / name).read_bytes():
            return name
    for name in ("summary.json", "test/metrics.json"):
        first, second = (dict(_leaves(json.loads((folder / name).read_text()))) for folder in (one, other))
        if first != second:
            return name
    for name in ("best.pt", "last.pt"):
        states = [dict(_leaves(load_checkpoint(folder / name))) for folder in (one, other)]
        changed = [key for key in states[0].keys() | states[1].keys() if states[0].get(key) != states[1].get(key)]
        if changed:
            return f"{name}: {', '.join(sorted(changed)[:5])}"
    return None


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, plain value or bytes of a tensor) of a checkpoint or JSON, but for times and what runs are called.

    Trials count the runs beside one.
    """
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            if name not in (*TIMES, "config", "name", "trials"):
                yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, torch.Tensor):
        yield key, (tree.dtype, tuple(tree.shape), tree.numpy().tobytes())
    else:
        yield key, tree


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that name a packed train, val and test split."""
    return make_data(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small lose time to threads, and much of it where other work has the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Matplotlib saves a pixel: to draw figures takes as long as these trainings, and has tests of its own."""
    from matplotlib.figure import Figure

    def save(self: Figure, file: Any, format: str = "png", **options: Any) -> None:
        if format == "svg":
            file.write('<svg viewBox="0 0 1 1"></svg>')
        else:
            Image.new("L", (1, 1)).save(file, "PNG")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@pytest.fixture(scope="module", autouse=True)
def shallow() -> Iterator[None]:
    """I3D has ten stages, for what does not depend on how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(I3D, "stages", SHALLOW)
        yield


@pytest.fixture
def arguments(data: list[str], tmp_path: Path) -> MakeArguments:
    """Command-line arguments of a small run in tmp_path / "runs", with further overrides."""

    def make(*overrides: str) -> list[str]:
        return ["-c", str(CONFIG), *data, *SMALL, f"runs={tmp_path / 'runs'}", *overrides]

    return make


@pytest.fixture
def config(arguments: MakeArguments) -> MakeConfig:
    """A small run's config, with further overrides."""

    def make(*overrides: str) -> Config:
        return load_config(CONFIG, arguments(*overrides)[2:])

    return make
