"""Annotations: both forms, and what is said of rows that are wrong."""

import csv
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.epic import stride_of_id
from common.errors import ConfigError, UserError
from configs.load import load_config
from configs.presets import Preset
from preprocess.annotations import Clip, read_split, select
from preprocess.classes import class_names

XNORM = load_config("configs/xnorm.yaml").data.rows
SIX = "narration_id,participant_id,video_id,start_frame,stop_frame,verb"
EPIC = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
REAL = Path(__file__).parents[2] / "../shared/data/epic_annotations"


def read(path: Path, text: str | bytes) -> list[Clip]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_split([path], "train").clips


def test_both_forms_give_the_same_clip(tmp_path: Path) -> None:
    expected = [Clip("P01_01_0", "P01", "P01_01", 8, 202, (3,))]
    assert read(tmp_path / "six.csv", f"{SIX}\nP01_01_0,P01,P01_01,8,202,3\n") == expected
    row = "P01_01_0,P01,P01_01,00:01,00:00,00:03,8,202,\"open, wide\",open,3,door,3,['door'],[3]"
    assert read(tmp_path / "epic.csv", f"{EPIC}\n{row}\n") == expected


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    text = f"{SIX}\r\nP01_01_0,P01,P01_01,8,202,3\r\n\r\nP01_01_1,P01,P01_01,1,2,0\r\n"
    assert len(read(tmp_path / "a.csv", b"\xef\xbb\xbf" + text.encode())) == 2


def test_columns_may_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    text = "verb,extra,video_id,stop_frame,start_frame,participant_id,narration_id\n3,x,P01_01,202,8,P01,P01_01_0\n"
    assert read(tmp_path / "a.csv", text) == [Clip("P01_01_0", "P01", "P01_01", 8, 202, (3,))]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("a,P01,P01_01,1.0,9,3", r"start_frame: found '1.0'; allowed: a whole number"),
        ("a,P01,P01_01,1,,3", r"stop_frame: found ''; allowed"),
        ("a,P01,P01_01,1,9,-1", r"verb: found '-1'; allowed: a whole number, not negative"),
        ("a,P01,P01_01,1,9,take", r"verb: found 'take'; .*verb_class"),
        ("a,P01,P01_01,10,9,3", r"stop_frame: found 9, before start_frame 10"),
        ("a,P01,P01_01,0,9,3", r"start_frame: found 0; frames count from 1"),
        ("a,P01,P01_01,1,99999999999,3", r"stop_frame: found 99999999999; at most 2147483647"),
        ("a,P01,P01_01,1,9999999999,3", r"stop_frame or label: found 9999999999; at most 2147483647"),
        ("a,P01,../P01_01,1,9,3", r"video_id: found '../P01_01'; an id is"),
        ("a,..,P01_01,1,9,3", r"participant_id: found '..'; an id is"),
        ("a,/etc,P01_01,1,9,3", r"participant_id: found '/etc'; an id is"),
        ("../../a,P01,P01_01,1,9,3", r"narration_id: found '../../a'; an id is"),
        (",P01,P01_01,1,9,3", r"narration_id: found ''; an id is"),
        ("a,P01,P01\\01,1,9,3", r"video_id: found"),
        ("a,P01,P01_01,1,9", r"found 5 cells, the header has 6"),
    ],
)
def test_a_wrong_row_is_named_with_what_is_allowed(tmp_path: Path, row: str, match: str) -> None:
    with pytest.raises(UserError, match=rf"a\.csv:3: {match}"):
        read(tmp_path / "a.csv", f"{SIX}\nok,P01,P01_01,1,9,3\n{row}\n")


def test_all_wrong_rows_are_listed_and_many_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"a{n},P01,P01_01,0,9,3\n" for n in range(50))
    with pytest.raises(UserError, match=r"(?s)50 rows .* wrong.*a\.csv:2: .*a\.csv:21: .*and 30 more$") as caught:
        read(tmp_path / "a.csv", f"{SIX}\n{rows}")
    assert "a.csv:22:" not in str(caught.value)


def test_an_id_that_occurs_twice_in_a_split_is_named_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{SIX}\nx,P01,P01_01,1,9,3\n")
    (tmp_path / "b.csv").write_text(f"{SIX}\ny,P01,P01_01,1,9,3\nx,P02,P02_01,1,9,3\n")
    with pytest.raises(UserError, match=r"b\.csv:3: narration_id 'x' occurs twice, first at .*a\.csv:2"):
        read_split([tmp_path / "a.csv", tmp_path / "b.csv"], "train")


def test_files_that_are_no_annotations_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(UserError, match=r"a\.csv:1: missing columns: narration_id, .*; found: an empty file"):
        read(path, "")
    with pytest.raises(
        UserError, match=r"a\.csv:1: missing columns: video_id, verb_class or verb; found: narration_id"
    ):
        read(path, "narration_id,participant_id,start_frame,stop_frame\n")
    with pytest.raises(UserError, match=r"a\.csv: no rows below the header"):
        read(path, SIX + "\n")
    with pytest.raises(UserError, match=r"a\.csv: not UTF-8 text"):
        read(path, b"\xff\xfe\x00n")
    with pytest.raises(UserError, match=r"a\.csv:2: not CSV: field larger"):
        read(path, f"{SIX}\n{'a' * 200_000},P01,P01_01,1,9,3\n")
    with pytest.raises(ConfigError, match=r"data\.annotations\.train: .*none\.csv: cannot be read"):
        read_split([tmp_path / "none.csv"], "train")


def test_a_million_rows_take_seconds(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(SIX.split(","))
        writer.writerows((f"P01_01_{n}", "P01", "P01_01", n + 1, n + 20, n % 8) for n in range(100_000))
    begin = time.process_time()
    assert len(read_split([path], "train").clips) == 100_000
    assert time.process_time() - begin < 3  # a tenth of the rows, on a machine that does other things too


@given(st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)), st.booleans())
@settings(max_examples=100, deadline=timedelta(seconds=2))
def test_whatever_a_file_holds_it_is_rows_or_a_message(content: bytes, has_header: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(UserError):
        assert read(Path(folder, "a.csv"), (f"{SIX}\n".encode() if has_header else b"") + content)


def test_the_id_says_how_many_rgb_frames_a_flow_frame_has() -> None:
    assert [stride_of_id(video) for video in ("P01_01", "P22_117", "P01_99", "P01_217", "P1_01", "video7")] == [
        *(2, 1, 2, None, None, None)
    ]


def test_the_preset_takes_kitchens_verbs_and_clips_with_sixteen_flow_frames() -> None:
    long_2018 = Clip("a", "P01", "P01_01", 1, 31, (0,))  # flow 1..16
    kept = [
        long_2018,
        long_2018._replace(video_id="P01_101", stop_frame=16),
        long_2018._replace(start_frame=2, stop_frame=32),
    ]
    dropped = [
        long_2018._replace(stop_frame=30),  # flow 1..15
        long_2018._replace(video_id="P01_101", stop_frame=15),
        long_2018._replace(participant_id="P02", video_id="P02_01"),
        long_2018._replace(targets=(8,)),
    ]
    assert select([*kept, *dropped], XNORM, "train") == kept
    assert select([*kept, *dropped], Preset(), "train") == [*kept, *dropped]


def test_the_preset_holds_out_videos_for_validation() -> None:
    held_out, other = Clip("a", "P22", "P22_14", 1, 99, (0,)), Clip("b", "P22", "P22_15", 1, 99, (0,))
    assert select([held_out, other], XNORM, "val") == [held_out]
    assert select([held_out, other], XNORM, "train") == [other]
    assert select([held_out, other], XNORM, "test") == [held_out, other]


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the annotations of EPIC-KITCHENS-100")
def test_the_preset_on_the_real_annotations() -> None:
    train, test = (read_split([REAL / f"EPIC_100_{name}.csv"], name).clips for name in ("train", "validation"))
    assert len(train) == 67_217
    counts = [len(select(clips, XNORM, split)) for clips, split in ((train, "train"), (train, "val"), (test, "test"))]
    assert counts == [11_186, 1_908, 2_115]


def test_a_preset_reads_a_column_for_each_target(tmp_path: Path) -> None:
    row = "a,P01,P01_01,00:01,00:00,00:03,8,202,open door,open,3,door,5,['door'],[5]"
    (tmp_path / "a.csv").write_text(f"{EPIC}\n{row}\n")
    rows = read_split([tmp_path / "a.csv"], "train", {"verb": ("verb_class",), "noun": ("noun_class",)})
    assert rows.clips == [Clip("a", "P01", "P01_01", 8, 202, (3, 5))]
    assert rows.texts == {"verb": {3: {"open": 1}}, "noun": {5: {"door": 1}}}
    with pytest.raises(UserError, match=r"a\.csv:1: missing columns: colour_class"):
        read_split([tmp_path / "a.csv"], "train", {"verb": ("verb_class",), "colour": ("colour_class",)})


def test_a_test_split_may_have_no_labels_and_others_may_not(tmp_path: Path) -> None:
    text = "narration_id,participant_id,video_id,start_frame,stop_frame\na,P01,P01_01,1,9\n"
    (tmp_path / "a.csv").write_text(text)
    rows = read_split([tmp_path / "a.csv"], "test", {"verb": ("verb_class",), "noun": ("noun_class",)})
    assert (rows.clips[0].targets, rows.unlabelled) == ((-1, -1), [tmp_path / "a.csv"])
    for split in ("train", "val"):
        with pytest.raises(UserError, match="missing columns: verb_class or verb"):
            read_split([tmp_path / "a.csv"], split)
    (tmp_path / "a.csv").write_text(text.replace("stop_frame\n", "stop_frame,verb_class\n").replace("9\n", "9,0\n"))
    with pytest.raises(UserError, match="missing columns: noun_class"):
        read_split([tmp_path / "a.csv"], "test", {"verb": ("verb_class",), "noun": ("noun_class",)})


def test_a_preset_numbers_the_classes_that_it_takes_in_its_order() -> None:
    clips = [Clip(str(n), "P01", "P01_01", 1, 99, (n, 7)) for n in range(4)]
    preset = Preset(targets={"verb": "verb_class", "noun": "noun_class"}, classes={"verb": [3, 1]})
    assert [clip.targets for clip in select(clips, preset, "train")] == [(1, 7), (0, 7)]
    unknown = [clips[0]._replace(targets=(-1, -1))]
    assert select(unknown, preset, "test") == unknown


def test_one_kitchen_may_train_and_another_test() -> None:
    """As MM-SADA does: D2 (P01) to D1 (P08)."""
    preset = Preset(participants={"train": ["P01"], "val": ["P01"], "test": ["P08"]}, classes={"label": list(range(8))})
    clips = [Clip(p, p, f"{p}_01", 1, 99, (0,)) for p in ("P01", "P08", "P22")]
    taken = {split: [clip.clip_id for clip in select(clips, preset, split)] for split in ("train", "val", "test")}
    assert taken == {"train": ["P01"], "val": ["P01"], "test": ["P08"]}


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the annotations of EPIC-KITCHENS-100")
@pytest.mark.slow
def test_all_of_epic_has_two_targets_and_a_test_split_without_labels() -> None:
    preset = load_config("configs/xnorm.yaml", ["data.preset=epic-100"]).data.rows
    targets = {name: (column,) for name, column in (preset.targets or {}).items()}
    files = {"train": "EPIC_100_train", "val": "EPIC_100_validation", "test": "EPIC_100_test_timestamps"}
    rows = {split: read_split([REAL / f"{file}.csv"], split, targets) for split, file in files.items()}
    counts = {split: len(select(found.clips, preset, split)) for split, found in rows.items()}
    assert counts == {"train": 67_217, "val": 9_668, "test": 13_092}
    seen = [{clip.targets[place] for clip in rows["train"].clips} for place in (0, 1)]
    assert [max(numbers) < total for numbers, total in zip(seen, (97, 300), strict=True)] == [True, True]
    assert {clip.targets for clip in rows["test"].clips} == {(-1, -1)}
    for name, column, total in (("verb", "verb_class", 97), ("noun", "noun_class", 300)):
        names, _ = class_names(name, column, [REAL], rows["train"].texts[name], None)
        assert names is not None
        assert len(names) == total
        assert names[:2] == {"verb": ("take", "put"), "noun": ("tap", "spoon")}[name]
