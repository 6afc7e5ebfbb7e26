"""The bytes of a shard set: encoder against protobuf, framing, table, index, and what damage to each is called."""

import io
import json
import tempfile
import tracemalloc
import zipfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from tfrecord import example_pb2

from pipeline.format.index import Inputs, PackOptions, ShardError, Target, index_checksum, read_index
from pipeline.format.split import open_split
from pipeline.format.streams import PLANES, STREAMS
from pipeline.format.table import FrameTable
from pipeline.format.tfrecord import (
    ID_FEATURES,
    NUMBER_FEATURES,
    ClipFields,
    encode_example,
    encode_record,
    masked_crc,
    record_payload,
    stored_crc,
)
from preprocess.packing import split_writer as parts

BOTH = tuple(STREAMS.values())
IDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)
NUMBERS = st.integers(0, 2**63 - 1)


@st.composite
def clips(draw: st.DrawFn) -> tuple[ClipFields, list[list[bytes]]]:
    num_frames = draw(st.integers(1, 5))
    indices = {name: draw(st.lists(NUMBERS, min_size=num_frames, max_size=num_frames)) for name in STREAMS}
    jpegs = [[draw(st.binary(min_size=1, max_size=300)) for _ in range(3)] for _ in range(num_frames)]
    ids, numbers = [draw(IDS) for _ in range(3)], [draw(NUMBERS) for _ in range(4)]
    targets = draw(st.dictionaries(st.sampled_from(["label", "verb", "noun"]), st.integers(-1, 2**31), min_size=1))
    return ClipFields(*ids, *numbers, targets, indices), jpegs


def small_clip(num_frames: int = 2) -> tuple[ClipFields, list[list[bytes]]]:
    frames = list(range(1, num_frames + 1))
    jpegs = [[b"%s%04d" % (stream, frame) for stream in (b"r", b"u", b"v")] for frame in frames]
    index = {"rgb": frames, "flow": frames}
    return ClipFields("P01_01_0", "P01_01", "P01", 1, num_frames, 256, 456, {"label": 3}, index), jpegs


@given(clips())
@settings(max_examples=40, deadline=None)
def test_protobuf_reads_back_what_was_encoded(clip: tuple[ClipFields, list[list[bytes]]]) -> None:
    fields, jpegs = clip
    chunks, offsets = encode_example(fields, jpegs, PLANES)
    message = b"".join(chunks)
    example = example_pb2.Example()
    example.ParseFromString(message)
    found = example.features.feature
    for name in ID_FEATURES:
        assert list(found[name].bytes_list.value) == [getattr(fields, name).encode()]
    for name in NUMBER_FEATURES:
        assert list(found[name].int64_list.value) == [getattr(fields, name)]
    for name, label in fields.targets.items():
        assert list(found[name].int64_list.value) == [label]
    for name, index in fields.frame_index.items():
        assert list(found[f"{name}_index"].int64_list.value) == index
    for frame, row in enumerate(jpegs):
        for column, plane in enumerate(PLANES):
            assert list(found[f"{plane}/{frame:03d}"].bytes_list.value) == [row[column]]
            begin = offsets[frame, column]
            assert message[begin : begin + len(row[column])] == row[column]
    assert len(found) == 9 + len(fields.targets) + 3 * len(jpegs)


def test_features_stand_in_the_order_of_their_names_and_frames_in_the_order_of_time() -> None:
    clip, jpegs = small_clip(1002)
    _, offsets = encode_example(clip, jpegs, PLANES)
    assert (np.diff(offsets, axis=0) > 0).all()  # rgb/0999 before rgb/1000
    assert (offsets[-1, [1, 2]] < offsets[0, [2, 0]]).all()  # flow_u, flow_v, rgb


def test_masked_crc_is_that_of_the_tfrecord_format() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert masked_crc(0xE3069283) == 0xC78AB0E5  # rotated right by 15: 0x2507C60D, plus 0xA282EAD8


def test_any_changed_or_missing_byte_of_a_record_is_noticed() -> None:
    record, _ = encode_record(*small_clip())
    assert bytes(record_payload(record)) == b"".join(encode_example(*small_clip(), PLANES)[0])
    for position in range(len(record)):
        for changed in (record[position] ^ 1, record[position] ^ 0x80):
            with pytest.raises(ValueError, match=r"CRC|says"):
                record_payload(record[:position] + bytes([changed]) + record[position + 1 :])
        with pytest.raises(ValueError, match=r"CRC|says|shorter"):
            record_payload(record[:position])


def write_split(folder: Path, num_clips: int = 3) -> Path:
    """A split of one shard, without images: format does not look into JPEGs."""
    folder.mkdir(parents=True, exist_ok=True)
    offsets, sizes, position, crcs = [], [], 0, []
    with open(folder / "00000.tfrecord", "wb") as file:
        records = []
        for _ in range(num_clips):
            clip, jpegs = small_clip()
            record, positions = encode_record(clip, jpegs)
            offsets.append(positions + position)
            sizes.append([[len(jpeg) for jpeg in row] for row in jpegs])
            crcs.append([[crc32c(jpeg) for jpeg in row] for row in jpegs])
            records.append((position, len(record)))
            position += file.write(record)
    crc = stored_crc(record)
    table = make_table(num_clips, np.array(records), crc, offset=offsets, size=sizes, crc=crcs)
    summary = {"name": "00000.tfrecord", "bytes": position, "crc32c": 1, "clips": num_clips}
    wanted = parts.Wanted("train", PackOptions(), "", None, BOTH, (Target(name="label"),))
    parts.finish(folder, [(table, summary)], wanted, Inputs(), [])
    return folder


def make_table(num_clips: int, records: np.ndarray, record_crc: int, **per_file: object) -> FrameTable:
    clip, _ = small_clip()
    ids = {name: [getattr(clip, name)] * num_clips for name in ID_FEATURES}
    same = {name: getattr(clip, name) for name in NUMBER_FEATURES}
    same |= {"record_shard": 0, "num_frames": 2, "targets": 3, "record_crc": record_crc}
    values = {name: np.full(num_clips, value) for name, value in same.items()}
    records_of = {"record_offset": records[:, 0], "record_size": records[:, 1]}
    numbers = np.tile([[1, 1], [2, 2]], (num_clips, 1))
    return FrameTable.of(BOTH, 1, {**ids, **values, **records_of, "frame_index": numbers, **per_file})


def rewrite_index(folder: Path, **changes: object) -> None:
    path = folder / "index.json"
    index = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(index | {"checksum": index_checksum(index)}))


def test_a_split_opens_with_its_table_and_its_jpegs_where_the_table_says(tmp_path: Path) -> None:
    split = open_split(write_split(tmp_path / "train"))
    data = split.shard_paths[0].read_bytes()
    assert len(split.table) == split.index.num_clips == 3
    for row in range(split.table.frames(2).start, split.table.frames(2).stop):
        begin, size = split.table.offset[row, 1], split.table.size[row, 1]
        assert data[begin : begin + size] == b"u%04d" % split.table.rgb_index[row]


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    table = open_split(write_split(tmp_path / "train")).table
    first, second = io.BytesIO(), io.BytesIO()
    table.write(first)
    FrameTable.read(first.getvalue(), BOTH, 1).write(second)
    assert first.getvalue() == second.getvalue() == (tmp_path / "train" / "frames.npz").read_bytes()


def test_a_folder_without_an_index_is_no_split(tmp_path: Path) -> None:
    write_split(tmp_path)
    (tmp_path / "index.json").unlink()
    with pytest.raises(ShardError, match=r"no index.json here.*preprocess/pack.py"):
        open_split(tmp_path)
    with pytest.raises(ShardError, match=r"no index.json here"):
        open_split(tmp_path / "nowhere")


def test_a_changed_or_missing_byte_of_the_index_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = write_split(tmp_path) / "index.json"
    whole, index = path.read_bytes(), read_index(tmp_path)
    num_noticed = 0
    for position, byte in enumerate(whole):
        instead = (bytes([byte ^ 1]), bytes([byte ^ 0x80]), b"")[position % 3]
        path.write_bytes(whole[:position] + instead + whole[position + 1 :])
        try:
            assert read_index(tmp_path) == index  # white space, or other ways to write the same
        except ShardError:
            num_noticed += 1
    assert num_noticed > len(whole) / 2


def test_any_changed_byte_of_the_table_is_noticed(tmp_path: Path) -> None:
    path = write_split(tmp_path) / "frames.npz"
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(ShardError, match=r"frames.npz: damaged, its CRC"):
            open_split(tmp_path)


@pytest.mark.parametrize("name", ["00000.tfrecord", "frames.npz"])
def test_a_file_that_is_missing_or_short_is_named(tmp_path: Path, name: str) -> None:
    path = write_split(tmp_path) / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ShardError, match=rf"{name}: has \d+ bytes, the index says \d+; copy it again"):
        open_split(tmp_path)
    path.unlink()
    with pytest.raises(ShardError, match=f"{name}: is missing"):
        open_split(tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"version": 3}, "version 3, this code reads 1 and 2"),
        ({"format": "other"}, "not the index of a split"),
        ({"shards": [{"name": "../00000.tfrecord", "bytes": 1, "crc32c": 1, "clips": 3}]}, "does not have the entries"),
        ({"shards": None}, "does not have the entries"),
        ({"streams": []}, "does not have the entries"),
        ({"streams": 2 * [{"name": "rgb", "planes": ["rgb"], "channels": 3}]}, "does not have the entries"),
        ({"targets": []}, "does not have the entries"),
        ({"targets": [{"name": "width"}]}, "does not have the entries"),
        ({"targets": [{"name": "rgb_index"}]}, "does not have the entries"),
        ({"targets": [{"name": "label", "classes": ["a", "b", "c"]}]}, "a class of label is out of range"),
        ({"num_clips": 2**80}, "does not have the entries"),
        ({"num_clips": 4}, "counts other clips"),
        ({"frames": {"name": "/etc/passwd", "bytes": 1, "crc32c": 1}}, "does not have the entries"),
    ],
)
def test_an_index_that_says_what_cannot_be_is_refused(tmp_path: Path, changes: dict[str, object], match: str) -> None:
    rewrite_index(write_split(tmp_path), **changes)
    with pytest.raises(ShardError, match=match):
        open_split(tmp_path)


@pytest.mark.parametrize(
    ("name", "row", "value", "match"),
    [
        ("offset", 0, 0, "outside its record"),
        ("offset", 0, 2**62, "outside its record"),
        ("size", 1, 2**31 - 1, "outside its record"),
        ("size", 1, -5, "outside its record"),
        ("record_offset", 2, 2**62, "ends after its shard"),
        ("record_size", 2, 2**62, "ends after its shard"),
        ("record_size", 0, 3, "shorter than its framing"),
        ("record_shard", 0, 1, "names a shard"),
        ("record_shard", 0, -1, "names a shard"),
        ("num_frames", 1, 0, "num_frames"),
        ("num_frames", 2, 3, "num_frames"),
        ("height", 0, 0, "out of range"),
        ("width", 1, 2**31 - 1, "out of range"),
    ],
)
def test_a_table_that_points_elsewhere_is_refused(tmp_path: Path, name: str, row: int, value: int, match: str) -> None:
    split = open_split(write_split(tmp_path))
    table = FrameTable.read((tmp_path / "frames.npz").read_bytes(), BOTH, 1)
    getattr(table, name)[row] = value
    with pytest.raises(ValueError, match=match):
        table.check([shard.bytes for shard in split.index.shards])


def npz(name: str, descr: str, shape: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of one member whose header says what it likes."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content)
    return memory.getvalue()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (npz("clip_id", "'|S9'", "(10**12,)", b""), "malformed|Cannot parse"),
        (npz("clip_id", "'|S9'", "(1000000000000,)", b"x" * 9), r"says \|S9 \[1000000000000\], and has 9 bytes"),
        (npz("clip_id", "'|S2147483647'", "(1,)", b""), "and has 0 bytes"),
        (npz("clip_id", "'|S1'", "(-1,)", b""), "in another order"),
        (npz("clip_id", "'|S1'", "(10000000,)", bytes(10**7), zipfile.ZIP_DEFLATED), "is compressed"),
        (npz("clip_id", "'|O'", "(1,)", b"cos\nsystem\n(S'true'\ntR."), "in another order"),
    ],
)
def test_a_table_that_asks_for_the_impossible_is_refused_at_no_cost(data: bytes, match: str) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=match):
        FrameTable.read(data, BOTH, 1)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


TABLE = io.BytesIO()
NOTHING = np.zeros((4, 3), np.int64)
make_table(2, np.array([[0, 9], [9, 9]]), 0, offset=NOTHING, size=NOTHING, crc=NOTHING).write(TABLE)


@given(st.lists(st.tuples(st.integers(0, len(TABLE.getvalue()) - 1), st.binary(max_size=4)), min_size=1, max_size=4))
@settings(max_examples=200, deadline=timedelta(seconds=2))
def test_whatever_bytes_a_table_has_it_is_a_table_or_a_message(changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(TABLE.getvalue())
    for position, instead in changes:
        data[position : position + 1] = instead
    with suppress(ValueError):
        table = FrameTable.read(bytes(data), BOTH, 1)
        table.check([18])
        raise AssertionError("a size of 0 was not refused")


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=200, deadline=timedelta(seconds=2))
def test_whatever_an_index_holds_it_is_an_index_or_a_message(content: bytes, is_object: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = b'{"format": "clip-shards", "version": 1, "checksum": 0, ' + content + b"}" if is_object else content
        Path(folder, "index.json").write_bytes(text)
        with pytest.raises(ShardError, match=r"index\.json: "):
            read_index(Path(folder))


@given(st.binary(max_size=64))
@settings(max_examples=200, deadline=timedelta(seconds=2))
def test_whatever_bytes_stand_for_a_record_they_are_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"framing|CRC|the record says"):
        record_payload(record)


def test_an_archive_that_is_no_table_is_refused() -> None:
    memory = io.BytesIO()
    np.savez(memory, clip_id=np.array([b"a"]), rgb_index=np.array([{"a": 1}], dtype=object))
    for data in (b"", b"PK\x03\x04 no archive", memory.getvalue()):
        with pytest.raises(ValueError, match="not a frame table"):
            FrameTable.read(data, BOTH, 1)
