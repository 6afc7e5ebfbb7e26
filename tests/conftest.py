"""Fixtures shared by all tests: packed splits of small real videos, and the skipping of what needs a GPU."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from preprocess import pack
from tests.own import own
from tests.trees import Video, write_annotations, write_video

ROOT = Path(__file__).parents[1]
VIDEOS = [Video("P01_01"), Video("P02_101", tar=True), Video("P03_02", tar=True), Video("P04_103")]

Capture = pytest.CaptureFixture[str]
Packer = Callable[..., Path]
__all__ = ["own"]  # a fixture with a file of its own


def pytest_configure() -> None:
    # Small models on shared cores: a second thread costs more than it brings.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    # The same examples each time, however busy the machine.
    settings.register_profile("repeatable", derandomize=True, deadline=None)
    settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The commands' own tests take longest: first, so that no worker is left alone with them.
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pack_split(folder: Path, videos: list[Video], *overrides: str) -> Path:
    """Write the videos under `folder`, pack them as its train split, and return the split's folder."""
    for video in videos:
        write_video(folder / "frames", video)
    write_annotations(folder / "train.csv", videos)
    return pack_tree(folder, "shards", *overrides)


def pack_tree(folder: Path, shards: str, *overrides: str) -> Path:
    """Pack the videos of `folder` as the train split below <folder>/<shards>, and return the split's folder."""
    code = pack.main(
        [
            *("-c", str(ROOT / "configs" / "xnorm.yaml"), "data.preset=none", "data.workers=1"),
            f"data.frames={folder / 'frames'}",
            f"data.annotations={{train: [{folder / 'train.csv'}]}}",
            f"data.shards={folder / shards}",
            *overrides,
        ]
    )
    assert code == 0
    return folder / shards / "train"


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with frames/, train.csv and shards/train: eight clips of 64 x 96 pixels, 16 stored frames each."""
    folder = tmp_path_factory.mktemp("tree")
    pack_split(folder, VIDEOS)
    return folder


@pytest.fixture(scope="session")
def split(tree: Path) -> Path:
    """The packed split of `tree`."""
    return tree / "shards" / "train"


@pytest.fixture(scope="session")
def raw_split(tree: Path) -> Path:
    """The same clips as `split`, their frames stored as pixels."""
    return pack_tree(tree, "raw", "data.codec=raw")


@pytest.fixture(scope="session")
def packer(tmp_path_factory: pytest.TempPathFactory) -> Packer:
    """Pack other videos: packer([Video(...)], "data.frames_per_clip=all") returns the split's folder."""

    def make(videos: list[Video], *overrides: str) -> Path:
        return pack_split(tmp_path_factory.mktemp("packed"), videos, *overrides)

    return make
