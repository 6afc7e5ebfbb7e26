"""Frames stored as pixels: which pixels, in what size, and all that packing promises of JPEGs."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tfrecord.reader import tfrecord_loader
from torch.nn.functional import interpolate

from chaos.pack import contents
from common.display import Display
from pipeline.format.index import ShardError, index_checksum
from pipeline.format.split import open_split
from pipeline.format.streams import PLANES
from preprocess import pack
from preprocess.packing import pack_split as job
from preprocess.packing.codec import Codec
from preprocess.packing.jpeg import JpegHeader
from preprocess.packing.verify import verify_split
from preprocess.workers import Workers
from tests.conftest import Capture, Packer, pack_tree
from tests.trees import Video, write_annotations, write_video

RAW = "data.codec=raw"
SMALL_SHARDS = (RAW, "data.shard_mib=1")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A tree of six overlapping clips, 1.5 MiB of pixels each."""
    clips = tuple((1 + 4 * n, 20 + 4 * n, n % 2) for n in range(6))
    write_video(tmp_path / "frames", Video("P01_01", 40, 128, 160, clips))
    write_annotations(tmp_path / "train.csv", [Video("P01_01", clips=clips)])
    return tmp_path


def stored(split: Path, row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
    opened = open_split(split)
    begin, size = int(opened.table.offset[row, column]), int(opened.table.size[row, column])
    data = opened.shard_paths[0].read_bytes()[begin : begin + size]
    return np.frombuffer(data, np.uint8).reshape(height, width, (3, 1, 1)[column])


def decoded(tree: Path, row: int, column: int) -> NDArray[np.uint8]:
    """What OpenCV makes of the source file of a stored frame of P01_01."""
    table = open_split(tree / "shards" / "train").table
    number = int((table.rgb_index if column == 0 else table.flow_index)[row])
    folder = ("rgb_frames/P01_01", "flow_frames/P01_01/u", "flow_frames/P01_01/v")[column]
    path = tree / "frames" / "P01" / folder / f"frame_{number:010d}.jpg"
    image = cv2.imread(str(path), cv2.IMREAD_COLOR if column == 0 else cv2.IMREAD_GRAYSCALE)
    return np.atleast_3d(np.asarray(image, np.uint8))[..., ::-1]  # BGR to RGB


def test_pixels_are_those_of_another_decoder(tree: Path, raw_split: Path) -> None:
    for row in range(32):
        for column in range(3):
            np.testing.assert_array_equal(stored(raw_split, row, column, 64, 96), decoded(tree, row, column))


def test_larger_frames_are_scaled_to_the_short_side_as_another_library_does(tree: Path) -> None:
    split = pack_tree(tree, "raw40", RAW, "data.raw_short_side=40")
    table = open_split(split).table
    assert set(zip(table.height.tolist(), table.width.tolist(), strict=True)) == {(40, 60)}
    for column in range(3):
        source = torch.from_numpy(decoded(tree, 5, column).copy()).permute(2, 0, 1)[None].float()
        expected = interpolate(source, (40, 60), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
        assert np.abs(stored(split, 5, column, 40, 60) - expected).max() < 1.5


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((256, 456), 128, (128, 228)),
        ((456, 256), 128, (228, 128)),
        ((255, 455), 51, (51, 91)),
        ((64, 96), 64, (64, 96)),
    ],
)
def test_the_long_side_follows_and_nothing_is_enlarged(
    size: tuple[int, int], short_side: int, expected: tuple[int, int]
) -> None:
    assert Codec("raw", short_side).stored_size(JpegHeader(*size, 3))[:2] == expected
    assert Codec("raw", max(size)).stored_size(JpegHeader(*size, 3))[:2] == size
    assert Codec("raw").stored_size(JpegHeader(*size, 3))[:2] == size


def test_a_reader_of_others_finds_the_pixels(tree: Path, raw_split: Path) -> None:
    first = next(iter(tfrecord_loader(str(raw_split / "00000.tfrecord"), None, None)))
    for column, stream in enumerate(PLANES):
        found = np.frombuffer(bytes(first[f"{stream}/003"]), np.uint8).reshape(64, 96, (3, 1, 1)[column])
        np.testing.assert_array_equal(found, decoded(tree, 3, column))


@pytest.mark.slow
def test_bytes_do_not_depend_on_workers_or_on_an_interruption(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preprocess.workers.SMALL_JOB_BYTES", 0)
    whole = contents(pack_tree(big, "one", *SMALL_SHARDS))
    assert len([name for name in whole if name.endswith(".tfrecord")]) == 6
    assert contents(pack_tree(big, "two", *SMALL_SHARDS, "data.workers=2")) == whole

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "finish", stop)
        with pytest.raises(AssertionError):
            pack_tree(big, "three", *SMALL_SHARDS)
    kept = {path.name: path.stat().st_mtime_ns for path in (big / "three" / "train").glob("*.tfrecord")}
    split = pack_tree(big, "three", *SMALL_SHARDS)
    assert contents(split) == whole
    assert {path.name: path.stat().st_mtime_ns for path in split.glob("*.tfrecord")} == kept


def test_verifying_finds_any_changed_byte(raw_split: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(raw_split, tmp_path / "train"))

    def wrong() -> str:
        with Workers(1) as workers:
            return "\n".join(verify_split(copy, workers, Display(quiet=True))[1])

    assert wrong() == ""
    shard = copy / "00000.tfrecord"
    whole = shard.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 5):
        shard.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert "00000.tfrecord: clip P0" in wrong()


def test_the_plan_knows_the_bytes(big: Path, capsys: Capture) -> None:
    overrides = (f"data.frames={big / 'frames'}", f"data.annotations={{train: [{big / 'train.csv'}]}}", RAW)
    assert pack.main(["data.preset=none", f"data.shards={big / 'none'}", *overrides, "--plan"]) == 0
    assert "9.8 MB" in capsys.readouterr().out  # 6 clips x 16 frames x 128 x 160 pixels x 5 channels
    assert sum(shard.bytes for shard in open_split(pack_tree(big, "some", RAW)).index.shards) // 100_000 == 98


def test_a_frame_that_does_not_decode_is_a_bad_clip_whatever_the_check(
    packer: Packer, tmp_path: Path, capsys: Capture
) -> None:
    video = Video("P01_01")
    write_video(tmp_path / "frames", video)
    path = tmp_path / "frames/P01/flow_frames/P01_01/u/frame_0000000003.jpg"
    data = path.read_bytes()
    scan = data.index(b"\xff\xda")
    path.write_bytes(data[:scan] + b"\xff\xd9")  # the header is sound, the scan is not there
    write_annotations(tmp_path / "train.csv", [video])
    with pytest.raises(AssertionError):
        pack_tree(tmp_path, "shards", RAW, "data.check=header")
    assert "u/frame_0000000003.jpg does not decode" in capsys.readouterr().err


def test_the_index_names_the_codec(split: Path, raw_split: Path) -> None:
    assert open_split(split).codec == "jpeg"
    assert open_split(raw_split).codec == "raw"


@pytest.mark.parametrize(
    ("codec", "match"),
    [
        ("h264", "codec 'h264', this code reads jpeg, jpeg-restarts, raw"),
        ("raw", "not as long as the pixels of its frame"),
    ],
)
def test_another_codec_in_the_index_is_refused(split: Path, tmp_path: Path, codec: str, match: str) -> None:
    copy = Path(shutil.copytree(split, tmp_path / "train"))
    index = json.loads((copy / "index.json").read_text())
    index["options"]["codec"] = codec
    (copy / "index.json").write_text(json.dumps(index | {"checksum": index_checksum(index)}))
    with pytest.raises(ShardError, match=match):
        open_split(copy)
