"""The bytes of a clip's files, straight out of the mapped shards."""

import dataclasses
import mmap
import os
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from crc32c import crc32c

from pipeline.fetcher import ClipFetcher
from pipeline.format.split import Split, open_split
from pipeline.format.tfrecord import RECORD_FOOTER, RECORD_HEADER, masked_crc
from pipeline.reader import ClipReader, CorruptClipError
from pipeline.sampler import BatchSampler
from pipeline.views import ViewOptions
from tests.conftest import Packer
from tests.trees import Video


@pytest.fixture(scope="module")
def opened(packer: Packer) -> Split:
    """Forty stored frames a clip; one clip of a folder, one of a .tar."""
    whole = ((1, 40, 0),)
    return open_split(packer([Video("P01_01", clips=whole), Video("P02_101", clips=whole)], "data.frames_per_clip=all"))


def test_files_are_those_of_the_source_tree(opened: Split) -> None:
    frames = opened.dir.parents[1] / "frames" / "P01"
    files = ClipReader(opened, ("rgb", "flow")).read(0, np.array([0, 7, 39]))
    rgb = [jpeg.tobytes() for jpeg in files["rgb"][0]]
    assert rgb == [(frames / f"rgb_frames/P01_01/frame_{n:010d}.jpg").read_bytes() for n in (1, 8, 40)]
    for plane, jpegs in zip("uv", files["flow"], strict=True):
        expected = [(frames / f"flow_frames/P01_01/{plane}/frame_{n:010d}.jpg").read_bytes() for n in (1, 4, 20)]
        assert [jpeg.tobytes() for jpeg in jpegs] == expected


def test_repeated_frames_are_read_repeatedly(opened: Split) -> None:
    (once, again), _ = ClipReader(opened, ("flow",)).read(1, np.array([3, 3]))["flow"]
    assert once.tobytes() == again.tobytes()


def test_nothing_is_copied(opened: Split) -> None:
    reader = ClipReader(opened, ("rgb",))
    first, second = (reader.read(0, np.array([5]))["rgb"][0][0] for _ in range(2))
    assert np.shares_memory(first, second)


@pytest.mark.parametrize("frames", [[0], [0, 39], list(range(40)), [5, 5, 20]])
@pytest.mark.parametrize("streams", [("rgb",), ("flow",), ("rgb", "flow")])
def test_what_is_asked_for_ahead_covers_what_is_read(
    opened: Split, frames: list[int], streams: tuple[str, ...]
) -> None:
    reader = ClipReader(opened, streams)
    spans = reader._spans(1, np.array(frames))
    assert all(begin % mmap.PAGESIZE == 0 for begin, _ in spans)
    table = opened.table
    columns = [column for stream in streams for column in {"rgb": [0], "flow": [1, 2]}[stream]]
    for row in table.first_frame[1] + np.array(frames):
        for column in columns:
            begin = table.offset[row, column]
            assert any(low <= begin and begin + table.size[row, column] <= high for low, high in spans)


@pytest.mark.parametrize(
    ("frames", "what"), [(np.arange(40), "its record is damaged: it is whole, but another"), ([0, 39], "rgb/039 is")]
)
def test_a_sound_record_of_another_packing_is_noticed(
    opened: Split, tmp_path: Path, frames: Sequence[int], what: str
) -> None:
    split, table = open_split(shutil.copytree(opened.dir, tmp_path / "train")), opened.table
    shard = bytearray(split.shard_paths[0].read_bytes())
    begin, size = int(table.record_offset[1]), int(table.record_size[1])
    shard[int(table.offset[table.first_frame[1] + 39, 0]) + 300] ^= 1  # another last frame, of the same size
    end = begin + size - RECORD_FOOTER.size
    RECORD_FOOTER.pack_into(shard, end, masked_crc(crc32c(shard[begin + RECORD_HEADER.size : end])))
    split.shard_paths[0].write_bytes(shard)
    reader = ClipReader(split, ("rgb", "flow"))
    reader.read(0, np.array(frames))
    with pytest.raises(CorruptClipError, match=rf"clip P02_101_0 at byte \d+: {what}"):
        reader.read(1, np.array(frames))


def test_a_shard_that_gets_shorter_while_it_is_read_is_a_message(opened: Split, tmp_path: Path) -> None:
    copy = shutil.copytree(opened.dir, tmp_path / "train")
    reader = ClipReader(open_split(copy), ("rgb", "flow"))
    reader.read(0, np.array([0]))
    os.truncate(copy / "00000.tfrecord", 2 * mmap.PAGESIZE)
    for frames in (np.array([0, 39]), np.arange(40)):
        with pytest.raises(
            CorruptClipError, match=r"clip P02_101_0 at byte \d+: its part of the file .* cannot be read"
        ):
            reader.read(1, frames)


def test_far_parts_are_asked_for_on_their_own(opened: Split) -> None:
    far = opened.table.offset.copy()
    far[opened.table.first_frame[0] + 39] += 10**9
    split = dataclasses.replace(opened, table=dataclasses.replace(opened.table, offset=far))
    (_, first_end), (second, _) = ClipReader(split, ("rgb",))._spans(0, np.array([0, 39]))
    assert second - first_end > 9 * 10**8


def test_reading_ahead_keeps_the_plans_and_runs_ahead(opened: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    read_ahead: list[int] = []
    monkeypatch.setattr(ClipReader, "read_ahead", lambda self, clip, frames: read_ahead.append(clip))
    sampler = BatchSampler(2, 1, rank=0, world_size=1, seed=0, train=True)
    fetcher = ClipFetcher(ClipReader(opened, ("rgb",)), ViewOptions(8, 48), sampler)
    wanted = list(islice(sampler.batches_from(next(sampler.batches(0, 0))), 4))
    plans = fetcher.read_ahead(iter(wanted), ahead=2)
    assert next(plans) == wanted[0]
    assert read_ahead == [int(plan.clips[0]) for plan in wanted[:3]]
