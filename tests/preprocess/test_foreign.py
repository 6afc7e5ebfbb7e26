"""Readers that others wrote read the shards and agree with the source files."""

from pathlib import Path

import numpy as np
import pytest
from tfrecord.reader import tfrecord_loader

from pipeline.format.split import open_split
from pipeline.format.streams import PLANES


def source(tree: Path, clip: str, row: int, column: int) -> bytes:
    """A file of a video that is stored as folders."""
    table = open_split(tree / "shards" / "train").table
    position = table.first_frame[table.clip_id.tolist().index(clip.encode())] + row
    number = int((table.rgb_index if column == 0 else table.flow_index)[position])
    video = clip.rpartition("_")[0]
    kind = ("rgb_frames", "flow_frames", "flow_frames")[column]
    inside = ("", "u/", "v/")[column]
    return (tree / "frames" / clip[:3] / kind / video / f"{inside}frame_{number:010d}.jpg").read_bytes()


@pytest.mark.parametrize("with_offsets", [True, False])
def test_the_tfrecord_package_reads_every_feature(tree: Path, split: Path, with_offsets: bool) -> None:
    table = open_split(split).table
    offsets = str(split / "00000.idx") if with_offsets else None
    found = list(tfrecord_loader(str(split / "00000.tfrecord"), offsets, None))
    by_id = {bytes(record["clip_id"]): record for record in found}  # given offsets, it starts at one at random
    assert len(found) == len(by_id) == len(table)
    records = [by_id[bytes(name)] for name in table.clip_id]
    for clip, record in enumerate(records):
        assert record["label"] == [table.targets[clip, 0]]
        assert (record["height"], record["width"]) == ([64], [96])
        np.testing.assert_array_equal(record["rgb_index"], table.rgb_index[table.frames(clip)])
        np.testing.assert_array_equal(record["flow_index"], table.flow_index[table.frames(clip)])
        assert (record["start_frame"], record["stop_frame"]) == ([table.start_frame[clip]], [table.stop_frame[clip]])
    for row in range(16):
        for column, stream in enumerate(PLANES):
            assert bytes(records[0][f"{stream}/{row:03d}"]) == source(tree, "P01_01_0", row, column)


def test_dali_reads_every_feature(tree: Path, split: Path) -> None:
    dali = pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def, tfrecord

    table = open_split(split).table
    names = [f"{stream}/{row:03d}" for stream in PLANES for row in (0, 15)]
    features = {name: tfrecord.FixedLenFeature((), tfrecord.string, "") for name in ("clip_id", *names)}
    features |= {name: tfrecord.FixedLenFeature([1], tfrecord.int64, -1) for name in ("label", "height", "width")}
    features |= {name: tfrecord.FixedLenFeature([16], tfrecord.int64, -1) for name in ("rgb_index", "flow_index")}

    @pipeline_def(batch_size=len(table), num_threads=1, device_id=None)
    def read():
        found = fn.readers.tfrecord(
            path=str(split / "00000.tfrecord"), index_path=str(split / "00000.idx"), features=features
        )
        return tuple(found[name] for name in features)

    assert dali.__version__
    pipeline = read()
    pipeline.build()
    found = dict(zip(features, pipeline.run(), strict=True))
    for clip in range(len(table)):
        assert np.array(found["clip_id"][clip]).tobytes() == table.clip_id[clip]
        assert np.array(found["label"][clip]).tolist() == [table.targets[clip, 0]]
        assert np.array(found["rgb_index"][clip]).tolist() == table.rgb_index[table.frames(clip)].tolist()
        assert np.array(found["flow_index"][clip]).tolist() == table.flow_index[table.frames(clip)].tolist()
    for name in names:
        stream, _, row = name.partition("/")
        data = source(tree, "P01_01_0", int(row), PLANES.index(stream))
        assert np.array(found[name][0]).tobytes() == data
