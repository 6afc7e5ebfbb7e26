"""Rivals load the clips, crops and mirrors that they say; what cannot, or loads others, is left out with a word."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.rivals import base, published, simplejpeg_threads, torchvision_loader
from benchmarks.rivals.base import Clips, Rival, Task
from benchmarks.rivals.pixels import difference
from benchmarks.rivals.run import RIVALS, Opened, open_rival, our_loader
from benchmarks.rivals.videos import APART, video_batches
from pipeline.format.split import open_split
from pipeline.loader import ClipLoader
from tests.conftest import Packer
from tests.trees import Video

PLAIN = [rival for rival in RIVALS if not rival.from_extra]
EXTRA = [rival for rival in RIVALS if rival.from_extra]


@pytest.fixture
def task(split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setattr(base, "EPOCH", 8)
    return Task(open_split(split), split.parents[1] / "frames", tmp_path, 8, 48, 3, 1, 1)


def opened(rival: Rival, task: Task) -> Opened:
    found = open_rival(rival, task)
    assert isinstance(found, Opened), found
    return found


@pytest.mark.parametrize(
    "rival",
    [
        pytest.param(rival, id=rival.name, marks=[pytest.mark.slow] * (rival is torchvision_loader.RIVAL))
        for rival in PLAIN
        if rival is not published.RIVAL
    ],
)
def test_a_rival_loads_the_very_pixels_for_ever(rival: Rival, task: Task) -> None:
    found = opened(rival, task)
    assert found.pixels.largest == 0
    assert rival.packages[0] in found.versions
    assert list(islice(found.sizes, len(task) // 3 + 2)) == [3] * (len(task) // 3 + 2)  # beyond the end of an epoch


def test_the_published_way_reads_folders_and_leaves_a_mirrored_u_as_it_is(packer: Packer, tmp_path: Path) -> None:
    split = packer([Video("P01_01"), Video("P02_101")])
    task = Task(open_split(split), split.parents[1] / "frames", tmp_path, 8, 48, 3, 1, 1)
    batches = published.batches(task)
    batch = next(batch for batch in batches if batch.windows[:, 2].any())
    assert difference(batch, task, published.RIVAL).largest == 0
    assert difference(batch, task, replace(published.RIVAL, inverts_u=True)).largest > 1


def test_the_published_way_is_left_out_where_frames_are_in_archives(task: Task) -> None:
    assert open_rival(published.RIVAL, task) == f"{task.frames} does not hold the frames as folders"


@pytest.mark.parametrize("rival", [pytest.param(rival, id=rival.name) for rival in EXTRA])
def test_what_is_missing_is_left_out_with_the_way_to_get_it(rival: Rival, task: Task) -> None:
    try:
        version(rival.packages[0])
    except PackageNotFoundError:
        assert open_rival(rival, task) == f"{rival.packages[0]} is not installed; pip install '.[rivals]'"
    else:
        assert opened(rival, task).pixels.mean <= rival.apart


def test_the_loader_itself_passes_the_same_check(task: Task) -> None:
    rival = our_loader("loader", lambda: ClipLoader(task.split.dir, 3, 8, 48, num_threads=1))
    assert opened(rival, task).pixels.largest == 0


def test_other_clips_are_found(task: Task) -> None:
    def confused(task: Task) -> Iterator[Clips]:
        for batch in simplejpeg_threads.batches(task):
            yield batch._replace(clips=batch.clips.roll(1))

    assert "it loads other pixels: " in str(open_rival(replace(simplejpeg_threads.RIVAL, open=confused), task))


def test_one_that_fails_is_left_out_with_the_first_line_of_its_reason(task: Task) -> None:
    def broken(task: Task) -> Iterator[Clips]:
        raise OSError("libavutil.so.60: cannot open shared object file\nand more")

    assert open_rival(Rival("broken", (), broken), task) == "libavutil.so.60: cannot open shared object file"


def test_a_sample_of_named_fields_holds_the_files_of_its_view(task: Task) -> None:
    for ours, theirs in zip(task.files(task.view(5)), task.files_of(task.sample(5)), strict=True):
        assert [file.tobytes() for file in ours] == [file.tobytes() for file in theirs]


def decode_by_pyav(path: str, num_frames: int) -> np.ndarray:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])[:num_frames]


def test_videos_hold_the_frames_but_for_their_loss(task: Task) -> None:
    off = difference(next(video_batches(task, decode_by_pyav)), task, RIVALS[-1])
    assert 0 < off.mean <= APART
