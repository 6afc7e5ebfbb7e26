"""Verification: what it finds in a split that was damaged or made wrong after packing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from crc32c import crc32c

from common.display import Display
from pipeline.format.index import index_checksum
from pipeline.format.streams import STREAMS
from pipeline.format.table import FrameTable
from preprocess.packing import verify
from preprocess.workers import Workers


@pytest.fixture
def copy(split: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(split, tmp_path / "train"))


def wrong(folder: Path) -> str:
    with Workers(1) as workers:
        return "\n".join(verify.verify_split(folder, workers, Display(quiet=True))[1])


def test_any_changed_byte_of_a_shard_is_found(copy: Path) -> None:
    shard = copy / "00000.tfrecord"
    whole = shard.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 20):
        shard.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        found = wrong(copy)
        assert "00000.tfrecord: its CRC does not match the index" in found
        assert "00000.tfrecord: clip P0" in found


def test_a_shard_that_lacks_bytes_is_found(copy: Path) -> None:
    shard = copy / "00000.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert "the index says" in wrong(copy)


def test_a_missing_or_changed_list_of_offsets_is_found(copy: Path) -> None:
    idx = copy / "00000.idx"
    idx.write_text(idx.read_text().replace("0 ", "1 ", 1))
    assert "its .idx does not match the frame table" in wrong(copy)
    idx.unlink()
    assert "cannot be read with its .idx" in wrong(copy)


def test_a_table_that_says_otherwise_than_the_records_is_found(copy: Path) -> None:
    table = FrameTable.read((copy / "frames.npz").read_bytes(), tuple(STREAMS.values()), 1)
    table.rgb_index[3] += 1
    table.height[1] = 63
    table.crc[40, 2] ^= 1
    with open(copy / "frames.npz", "wb") as file:
        table.write(file)
    path, data = copy / "index.json", (copy / "frames.npz").read_bytes()
    index = json.loads(path.read_text())
    index["frames"] |= {"bytes": len(data), "crc32c": crc32c(data)}
    path.write_text(json.dumps(index | {"checksum": index_checksum(index)}))
    found = wrong(copy)
    assert "clip P01_01_0: the record is not what the frame table says" in found
    assert "clip P01_01_1: rgb/000 is (64, 96, 3), expected (height, width, channels) (63, 96, 3)" in found
    assert "flow_v/008 does not match its CRC" in found
    assert "geometry or classes" in found


def test_counts_that_do_not_add_up_are_found(copy: Path) -> None:
    path = copy / "index.json"
    index = json.loads(path.read_text())
    index["targets"][0]["clips"]["0"] += 1
    index["shards"][0]["clips"] += 1
    path.write_text(json.dumps(index | {"checksum": index_checksum(index)}))
    found = wrong(copy)
    assert "geometry or classes in the index are not those of the frame table" in found
    assert "numbers of clips" in found


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "no index.json here" in wrong(tmp_path)


def test_a_split_as_it_was_packed_is_right_here_and_in_other_processes(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong(copy) == ""
    monkeypatch.setattr("preprocess.workers.SMALL_JOB_BYTES", 0)
    assert wrong(copy) == ""
