"""Frames: folders and .tar files, strides, which frames a clip stores, and what is said of those that are missing."""

import io
import shutil
import tarfile
import tempfile
import time
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.annotations import Clip
from preprocess.packing.codec import Codec
from preprocess.packing.plan import VideoPlan, VideoTask, cut_shards, plan_video
from preprocess.sources.frames import FrameRules, choose_frames, find_stride, open_video
from preprocess.sources.layouts import LAYOUTS
from preprocess.sources.listing import SourceError, list_planes
from tests.trees import Video, write_video

BOTH = pytest.mark.parametrize("tar", [False, True], ids=["folder", "tar"])


def plan(
    root: Path, start: int = 1, stop: int = 40, video: str = "P01_01", num_frames: int | None = 16, **rules: object
) -> VideoPlan:
    clip = Clip("a", video.split("_")[0], video, start, stop, (0,))
    return plan_video(VideoTask(str(root), (clip,), num_frames, Codec(), FrameRules(**rules)))


def only_problem(root: Path, **segment: int) -> tuple[str, str]:
    ((clip_id, file, why),) = plan(root, **segment).problems
    assert clip_id == "a"
    return file, why


def add_members(path: Path, *members: tarfile.TarInfo) -> None:
    with tarfile.open(path, "a") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))


def test_stored_frames_are_evenly_spaced_over_the_segment() -> None:
    assert choose_frames(10, 25, 16).tolist() == list(range(10, 26))
    assert choose_frames(1, 31, 16).tolist() == list(range(1, 32, 2))
    assert choose_frames(5, 5, 3).tolist() == [5, 5, 5]
    assert choose_frames(7, 8, 4).tolist() == [7, 7, 7, 8]  # 0, 1/3, 2/3, 1 rounded down
    assert choose_frames(3, 6, None).tolist() == [3, 4, 5, 6]


@BOTH
def test_the_two_kinds_of_video_have_their_own_stride(tmp_path: Path, tar: bool) -> None:
    write_video(tmp_path, Video("P01_01", tar=tar))
    write_video(tmp_path, Video("P01_101", tar=tar))
    old, new = plan(tmp_path, 3, 18), plan(tmp_path, 3, 18, "P01_101")
    assert (old.stride, new.stride, old.stride_from) == (2, 1, "counts and id")
    assert old.clips[0].numbers[:, 0].tolist() == new.clips[0].numbers[:, 0].tolist() == list(range(3, 19))
    assert old.clips[0].numbers[:, 1].tolist() == [n for n in range(2, 10) for _ in range(2)]  # (rgb - 1) // 2 + 1
    assert new.clips[0].numbers[:, 1].tolist() == list(range(3, 19))


@pytest.mark.parametrize(
    ("video", "num_rgb", "num_flow", "expected"),
    [
        ("P01_01", 600, 300, (2, "counts and id")),
        ("P03_101", 240, 239, (1, "counts and id")),
        ("P03_101", 240, 230, (1, "id")),
        ("P01_01", 601, 299, (2, "counts and id")),
        ("P01_01", 1, 1, (2, "counts and id")),
        ("P08_05", 40_000, 9_000, (2, "id")),  # cut off
        ("P08_05", 9_000, 20_000, (2, "id")),
        ("kitchen", 600, 300, (2, "counts")),
        ("kitchen", 600, 598, (1, "counts")),
        ("kitchen", 900, 511, (1, "default")),  # denseflow without its last batch: neither all nor half
        ("kitchen", 100, 600, (1, "default")),
    ],
)
def test_the_stride_is_that_of_the_id_or_of_counts_that_agree_closely(
    video: str, num_rgb: int, num_flow: int, expected: tuple[int, str]
) -> None:
    assert find_stride(video, [num_rgb, num_flow]) == expected


def test_a_stride_that_is_given_is_that_of_videos_whose_id_says_none() -> None:
    assert find_stride("kitchen", [600, 300], 1) == (1, "given")
    assert find_stride("kitchen", [600, 200], 3) == (3, "given")
    assert find_stride("P01_01", [600, 300], 1) == (2, "counts and id")


@pytest.mark.parametrize(
    ("video", "num_rgb", "num_flow", "match"),
    [
        ("P01_01", 600, 600, "600 RGB and 600 flow frames say stride 1, but the id says .*stride 2"),
        ("P01_101", 600, 300, "600 RGB and 300 flow frames say stride 2, but the id says .*stride 1"),
    ],
)
def test_counts_that_contradict_the_id_are_refused(video: str, num_rgb: int, num_flow: int, match: str) -> None:
    with pytest.raises(SourceError, match=match):
        find_stride(video, [num_rgb, num_flow])


def remove_frames(folder: Path, first: int, last: int) -> None:
    for number in range(first, last + 1):
        (folder / f"frame_{number:010d}.jpg").unlink()


@pytest.mark.parametrize("short", ["rgb_frames/P01_101", "flow_frames/P01_101/u", "flow_frames/P01_101/v"])
def test_a_stream_that_is_short_loses_the_clips_past_its_end_and_no_others(tmp_path: Path, short: str) -> None:
    write_video(tmp_path, Video("P01_101", num_frames=100))
    remove_frames(tmp_path / "P01" / short, 41, 100)
    if short.endswith("u"):
        remove_frames(tmp_path / "P01/flow_frames/P01_101/v", 41, 100)
    assert not plan(tmp_path, 21, 40, "P01_101").problems
    assert len(plan(tmp_path, 81, 100, "P01_101").problems) == 1
    notes = plan(tmp_path, 21, 40, "P01_101").notes
    expected = {"rgb": ["P01_101: RGB ends with frame 40, flow goes on for 60 frames (stride 1)"], "v": []}
    expected["u"] = ["P01_101: flow ends with frame 40, 60 before RGB does (stride 1)"]
    assert notes == expected["rgb" if "rgb" in short else short[-1]]


def test_a_tar_that_is_cut_off_keeps_the_clips_before_the_cut(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01", num_frames=100, tar=True))
    path = tmp_path / "P01/rgb_frames/P01_01.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # as many as flow has, which says nothing here
    (clip,) = plan(tmp_path, 1, 20).clips
    assert clip.numbers[:, 1].tolist() == [(rgb - 1) // 2 + 1 for rgb in clip.numbers[:, 0]]
    (problem,) = plan(tmp_path, 81, 100).problems
    assert "the last RGB frame is 5" in problem.why
    assert "cut off inside ./frame_00000000" in problem.why
    assert "cut off inside" in plan(tmp_path, 1, 20).notes[0]


def test_flow_after_the_last_frame_is_the_last(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_101"))
    for inside in "uv":
        remove_frames(tmp_path / "P01/flow_frames/P01_101" / inside, 38, 40)
    found = plan(tmp_path, 25, 40, "P01_101")
    assert found.clips[0].numbers[:, 1].tolist() == [*range(25, 38), 37, 37, 37]
    assert found.num_clamped == 3


def test_a_clip_wholly_after_the_last_flow_frame_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_101"))
    for inside in "uv":
        remove_frames(tmp_path / "P01/flow_frames/P01_101" / inside, 36, 40)
    (problem,) = plan(tmp_path, 36, 40, "P01_101").problems
    assert "ends with flow frame 35, 40 RGB frames need 40 (stride 1); clips past it have none" in problem.why


def test_the_folder_wins_over_the_tar(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01", tar=True), seed=1)
    write_video(tmp_path, Video("P01_01", tar=False), seed=2)
    assert plan(tmp_path).kind == "folder"
    video = open_video(str(tmp_path), "P01", "P01_01")
    assert not any(stream.source.is_tar for stream in video.streams)


def test_rgb_may_be_a_tar_and_flow_a_folder(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01", tar=True))
    write_video(tmp_path, Video("P01_01", tar=False))
    shutil.rmtree(tmp_path / "P01/rgb_frames/P01_01")
    assert plan(tmp_path).kind == ".tar and folder"


def test_tar_members_are_found_where_they_lie(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01", tar=True))
    (clip,) = plan(tmp_path).clips
    for column, (kind, inside) in enumerate((("rgb", ""), ("flow", "u/"), ("flow", "v/"))):
        path = tmp_path / f"P01/{kind}_frames/P01_01.tar"
        index = clip.numbers[:, 0] if kind == "rgb" else clip.numbers[:, 1]
        data = path.read_bytes()
        with tarfile.open(path) as archive:
            for row, number in enumerate(index):
                member = archive.extractfile(f"./{inside}frame_{number:010d}.jpg")
                begin = clip.offsets[row, column]
                assert member is not None
                assert data[begin : begin + clip.sizes[row, column]] == member.read()


def test_a_video_without_frames_is_named(tmp_path: Path) -> None:
    assert only_problem(tmp_path) == ("P01/rgb_frames/P01_01", "is missing, as a folder and as a .tar")
    write_video(tmp_path, Video("P01_01"))
    (tmp_path / "P01/flow_frames").rename(tmp_path / "P01/elsewhere")
    assert only_problem(tmp_path)[0] == "P01/flow_frames/P01_01"


def test_an_empty_folder_is_named_and_the_tar_beside_it_too(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01", tar=True))
    (tmp_path / "P01/rgb_frames/P01_01").mkdir()
    file, why = only_problem(tmp_path)
    assert (file, why) == ("P01/rgb_frames/P01_01", "holds no frame_%010d.jpg")
    (hint,) = plan(tmp_path).hints.values()
    assert "the folder counts, not" in hint
    assert "tar -xf" in hint


def test_a_gap_is_named_even_where_no_stored_frame_lies(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01"))
    (tmp_path / "P01/rgb_frames/P01_01/frame_0000000002.jpg").unlink()
    (tmp_path / "P01/rgb_frames/P01_01/frame_0000000004.jpg").unlink()
    assert only_problem(tmp_path) == (
        "P01/rgb_frames/P01_01/frame_0000000002.jpg",
        "is missing (2 of the clip's RGB frames 1..40 are)",
    )
    assert not plan(tmp_path, 5, 40).problems


def test_u_without_v_is_named(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01"))
    (tmp_path / "P01/flow_frames/P01_01/v/frame_0000000020.jpg").unlink()
    file, why = only_problem(tmp_path)
    assert (file, why) == (
        "P01/flow_frames/P01_01/v/frame_0000000020.jpg",
        "is missing (1 of the clip's flow v frames 1..20 are)",
    )
    for path in (tmp_path / "P01/flow_frames/P01_01/v").iterdir():
        path.unlink()
    assert only_problem(tmp_path)[1] == "holds no v/frame_%010d.jpg"


def test_a_segment_past_the_last_frame_is_refused_without_making_room_for_it(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01"))
    for num_frames in (16, None):
        (problem,) = plan(tmp_path, 1, 2**31 - 1, num_frames=num_frames).problems
        assert "frames 1..2147483647 are wanted, the last RGB frame is 40" in problem.why


def test_frames_that_count_from_zero_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01"))
    (tmp_path / "P01/rgb_frames/P01_01/frame_0000000000.jpg").write_bytes(b"x")
    assert "frames count from 1" in only_problem(tmp_path)[1]


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01"))
    frame = tmp_path / "P01/rgb_frames/P01_01/frame_0000000001.jpg"
    frame.unlink()
    frame.mkdir()
    assert only_problem(tmp_path)[1] == "is no plain file"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    write_video(tmp_path, Video("P01_01", tar=True))
    link = tarfile.TarInfo("./frame_0000000003.jpg")
    link.type, link.linkname = kind, "/etc/passwd"
    add_members(tmp_path / "P01/rgb_frames/P01_01.tar", link)
    assert "frame_0000000003.jpg is a link or special file" in only_problem(tmp_path)[1]


@pytest.mark.parametrize("name", ["../frame_0000000003.jpg", "/etc/frame_0000000003.jpg", "a/../../b"])
def test_members_outside_the_tar_are_refused(tmp_path: Path, name: str) -> None:
    write_video(tmp_path, Video("P01_01", tar=True))
    add_members(tmp_path / "P01/rgb_frames/P01_01.tar", tarfile.TarInfo(name))
    assert "has a member outside its folder" in only_problem(tmp_path)[1]


def test_a_tar_that_is_none_or_not_whole_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01", tar=True))
    path = tmp_path / "P01/rgb_frames/P01_01.tar"
    whole = path.read_bytes()
    for length in (300, len(whole) // 2, len(whole) // 3):
        path.write_bytes(whole[:length])
        assert "download it again" in only_problem(tmp_path)[1]
    path.write_bytes(b"no tar at all" * 100)
    assert "is no whole, uncompressed .tar" in only_problem(tmp_path)[1]


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (header("long", tarfile.GNUTYPE_LONGNAME, 2**60) + bytes(1024), "is no whole, uncompressed .tar"),
        (header("pax", tarfile.XHDTYPE, 2**40) + bytes(1024), "is no whole, uncompressed .tar"),
        (header("pax", tarfile.XHDTYPE, 0) * 2000, "is no whole, uncompressed .tar"),
        (header("./frame_0000000041.jpg", size=2**60) + bytes(1024), "download it again"),
        (header("./frame_0000000001.jpg", size=-512) * 2, "says that it has -512 bytes"),
    ],
    ids=["a name of an exabyte", "a header of a terabyte", "headers of headers", "an exabyte", "a size below zero"],
)
def test_a_tar_that_asks_for_the_impossible_is_refused_at_no_cost(tmp_path: Path, content: bytes, why: str) -> None:
    write_video(tmp_path, Video("P01_01", tar=True))
    (tmp_path / "P01/rgb_frames/P01_01.tar").write_bytes(content)
    tracemalloc.start()
    begin = time.monotonic()
    assert why in only_problem(tmp_path)[1]
    assert time.monotonic() - begin < 5
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()


def with_checksum(block: bytes) -> bytes:
    """A .tar's header as it has to be for the rest of it to be looked at."""
    return block[:148] + b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32) + block[156:]


@given(
    st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 255)), max_size=6),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.none() | st.integers(0, 8000),
)
@settings(max_examples=150, deadline=timedelta(seconds=2))
def test_whatever_a_tar_holds_it_is_frames_or_a_message(
    changes: list[tuple[int, int]], form: int, length: int | None
) -> None:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w", format=form) as archive:
        for name in ("./frame_0000000001.jpg", "n" * 150, "./frame_0000000002.jpg"):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 3, {"comment": "ä"}
            archive.addfile(member, io.BytesIO(b"jpg"))
    data = bytearray(memory.getvalue())
    for position, value in changes:
        data[position] = value
        start = position // 512 * 512
        data[start : start + 512] = with_checksum(bytes(data[start : start + 512]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tar")
        path.write_bytes(data[:length])
        try:
            stream = list_planes(folder, str(path)[:-4], ("rgb",), LAYOUTS["epic"])["rgb"]
        except SourceError:
            return
        assert all(
            0 <= offset <= offset + size <= len(data) for offset, size in zip(stream.offsets, stream.sizes, strict=True)
        )


def test_other_members_of_a_tar_do_not_matter(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01", tar=True))
    member = tarfile.TarInfo("./README")
    member.size = 700
    add_members(tmp_path / "P01/rgb_frames/P01_01.tar", member)
    assert not plan(tmp_path).problems


def test_shards_hold_whole_clips_up_to_their_size(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01"))
    (clip,) = plan(tmp_path).clips
    sizes = [len(shard) for shard in cut_shards([clip] * 7, 3 * clip.num_bytes)]
    assert sizes == [3, 3, 1]
    assert [len(shard) for shard in cut_shards([clip] * 3, clip.num_bytes - 1)] == [1, 1, 1]
    assert cut_shards([], 1) == []


def test_a_frame_number_beyond_reason_costs_no_memory(tmp_path: Path) -> None:
    write_video(tmp_path, Video("P01_01"))
    (tmp_path / "P01/rgb_frames/P01_01/frame_9999999999.jpg").write_bytes(b"x")
    assert not plan(tmp_path).problems
    assert "flow ends with frame 20, 4999999980 before RGB does" in plan(tmp_path).notes[0]
