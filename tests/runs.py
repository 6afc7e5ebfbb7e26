"""Packed splits of a few tiny clips, and command lines small enough to train on them in a second."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from configs import Config, load_config
from preprocess import pack
from tests.trees import Video, write_annotations, write_video

CONFIG = Path(__file__).parents[1] / "configs" / "base.yaml"
CLIPS = ((1, 16, 0), (17, 32, 1), (33, 48, 2))
SPLITS = {  # 12, 6 and 3 clips of 64 x 96 pixels
    "train": [Video(f"P01_{n:02d}", num_frames=48, clips=CLIPS) for n in range(1, 5)],
    "val": [Video(f"P02_{n:02d}", num_frames=48, clips=CLIPS) for n in range(1, 3)],
    "test": [Video("P03_01", num_frames=48, clips=CLIPS)],
}
SMALL = (
    *("clip.num_frames=8", "clip.crop_size=32", "loader.batch_size=4", "loader.num_threads=1"),
    *("model.width=0.05", "model.hidden_size=8", "model.num_classes=6", "train.epochs=2", "train.log_every=2"),
)

MakeArguments = Callable[..., list[str]]
MakeConfig = Callable[..., Config]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that name a packed train, val and test split."""
    folder = tmp_path_factory.mktemp("engine")
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


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small lose time to threads, and much of it where other work has the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
