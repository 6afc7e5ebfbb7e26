"""A split that the writer of version 1 made, tests/data/version1, is read as before."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from common.display import Display
from pipeline.format.index import ShardError
from pipeline.format.split import open_split
from pipeline.loader import ClipLoader
from pipeline.reader import CorruptClipError
from preprocess import pack
from preprocess.packing.verify import verify_split
from preprocess.workers import Workers

OLD = Path(__file__).parents[1] / "data" / "version1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / "train", tmp_path / "shards" / "train"))


def test_it_opens_as_one_of_today(old: Path) -> None:
    split = open_split(old, "train")
    assert (split.index.version, split.codec, split.source) == (1, "jpeg", None)
    assert split.labels.tolist() == split.targets["label"].tolist() == [1, 0]
    assert split.classes == {"label": None}
    assert split.columns == {"rgb": (0,), "flow": (1, 2)}
    assert split.table.first_frame.tolist() == [0, 2, 4]
    assert split.table.rgb_index.tolist() == split.table.flow_index.tolist() == [1, 4, 5, 8]
    with pytest.raises(ShardError, match="holds the split 'train', not 'val'"):
        open_split(old, "val")


def test_every_byte_is_verified_and_loaded(old: Path) -> None:
    with Workers(1) as workers:
        assert verify_split(old, workers, Display(quiet=True))[1] == []
    with ClipLoader(old, 2, num_frames=8, crop_size=32, train=False) as loader:
        (batch,) = list(loader)
    assert batch.labels.tolist() == [1, 0]
    assert tuple(batch.rgb.shape) == (2, 3, 8, 32, 32)
    shard = old / "00000.tfrecord"
    data = bytearray(shard.read_bytes())
    data[int(open_split(old).table.offset[3, 1]) + 200] ^= 1
    shard.write_bytes(data)
    with ClipLoader(old, 2, num_frames=8, crop_size=32, train=False) as loader, pytest.raises(CorruptClipError):
        list(loader)


def test_packing_keeps_it(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    annotations = f"data.annotations={{train: [{OLD / 'train.csv'}]}}"
    shards = f"data.shards={tmp_path / 'shards'}"
    assert pack.main([annotations, shards, "data.preset=none", "data.frames_per_clip=2"]) == 0
    assert "complete, kept as it is" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    assert pack.main([annotations, shards, "data.preset=none", "data.frames_per_clip=3"]) == 1
    assert "data.frames_per_clip was 2, is 3" in capsys.readouterr().err


@pytest.mark.parametrize("place", np.random.default_rng(0).integers(0, 4646, 20).tolist())
def test_any_changed_byte_of_its_table_is_noticed(old: Path, place: int) -> None:
    data = bytearray((old / "frames.npz").read_bytes())
    data[place] ^= 1
    (old / "frames.npz").write_bytes(data)
    with pytest.raises(ShardError, match="damaged, its CRC"):
        open_split(old)
