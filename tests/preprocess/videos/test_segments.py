"""The CSV of one's own videos: units, splits, ids, and what is refused."""

from pathlib import Path

import pytest

from common.epic import stride_of_id
from common.errors import UserError
from preprocess.videos.segments import Table, locate, read_table, video_id_of


def table(folder: Path, *lines: str, header: str = "file,start,stop,label") -> Table:
    path = folder / "segments.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return read_table(path)


def test_times_are_seconds_or_clock_times_and_may_be_left_out(tmp_path: Path) -> None:
    rows = table(tmp_path, "a.mp4,1.5,0:02.25,x", "a.mp4,1:00:00,,x", "./a.mp4,,7,x").segments
    assert [(row.start, row.stop) for row in rows] == [(1.5, 2.25), (3600, None), (None, 7)]
    assert {row.file for row in rows} == {"a.mp4"}


def test_frame_numbers_have_columns_of_their_own(tmp_path: Path) -> None:
    found = table(tmp_path, "a.mp4,1,40,x", header="file,start_frame,stop_frame,label")
    assert (found.unit, found.segments[0].start, found.segments[0].stop) == ("frames", 1, 40)
    assert table(tmp_path, "a.mp4,x", header="file,label").segments[0].stop is None


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,start,stop", "columns missing: label; found: file, start, stop; allowed: file, label; start"),
        ("file,start,label", "columns missing: stop"),
        ("file,start,stop,start_frame,stop_frame,label", "columns times in two units"),
        ("file,label,label", "columns twice: label"),
    ],
)
def test_headers_that_cannot_be_read_are_refused(header: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        table(tmp_path, "a.mp4,1,2,3,4,x", header=header)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("file,start,stop,label", "a.mp4,soon,2,x", "start: found 'soon'; allowed: seconds such as 12.5 or 0:12.5"),
        ("file,start,stop,label", "a.mp4,2,2,x", "stop: found 2, which is not after start 2"),
        ("file,start,stop,label", "a.mp4,-1,2,x", "start: found '-1'"),
        ("file,start,stop,label", "a.mp4,1,2", "found 1 cells fewer than the header has"),
        ("file,start,stop,label", ",1,2,x", "file: empty"),
        ("file,start,stop,label", "a.mp4,1,2, ", "label: empty"),
        ("file,start_frame,stop_frame,label", "a.mp4,0,2,x", "start_frame: found '0'; allowed: a frame's number"),
        ("file,start_frame,stop_frame,label", "a.mp4,1.5,2,x", "start_frame: found '1.5'"),
        ("file,label,split", "a.mp4,x,testing", "split: found 'testing'; allowed: train, val, test"),
        ("file,label,participant", "a.mp4,x,../me", "participant: found '../me'"),
    ],
)
def test_wrong_rows_are_named_by_line(header: str, row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"segments\.csv:2: ") as raised:
        table(tmp_path, row, header=header)
    assert message in str(raised.value)


def test_all_wrong_rows_are_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 rows .*\n.*:2: .*\n.*:4: "):
        table(tmp_path, "a.mp4,b,2,x", "a.mp4,1,2,x", "a.mp4,1,0,x")


def test_ids_are_paths_in_one_word() -> None:
    assert video_id_of("kitchen/day 1/a.b.mp4") == "kitchen-day-1-a.b"
    assert video_id_of("plain") == "plain"


@pytest.mark.parametrize("file", ["P01_01.MP4", "P01_101.mp4"])
def test_an_id_is_never_one_of_epic_s_own(file: str) -> None:
    assert stride_of_id(file[:-4]) is not None
    assert stride_of_id(video_id_of(file)) is None
    assert video_id_of(file) == f"own-{file[:-4]}"


def test_files_that_come_to_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r":3: a-b\.mp4 of .* and a/b\.mp4 of .*\(line 2\) come to one video id, 'a-b'"):
        locate(tmp_path, table(tmp_path, "a/b.mp4,1,2,x", "a-b.mp4,1,2,x"))


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.mp4").write_text("secret")
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "good.mp4").write_text("a video")
    (root / "same.mp4").symlink_to("good.mp4")
    files = ["../secret.mp4", str(tmp_path / "secret.mp4"), "link.mp4", "sub", "none.mp4", "good.mp4", "same.mp4"]
    found = locate(root, table(tmp_path, *(f"{file},1,2,x" for file in files)))
    whys = [found[file].why for file in files]
    assert whys[0] == whys[1] == "leads outside the folder of videos; allowed: paths inside it"
    assert whys[2] is not None
    assert whys[2].startswith("is a link that leads outside")
    assert whys[3:] == [None, "is missing", None, None]  # a folder may be one of frames
    assert [found[file].path for file in files[:3]] == [None, None, None]
