"""Layouts of frames: those that are read by their name, and what is said of others."""

import gzip
import re
import shutil
import subprocess
import tarfile
import unicodedata
from pathlib import Path

import pytest

from preprocess.sources.advice import explain_root
from preprocess.sources.frames import FrameRules, open_video
from preprocess.sources.listing import JpegFiles, SourceError
from tests.trees import Video, write_video

N = 12


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A video in EPIC's layout."""
    write_video(tmp_path, Video("me_000", num_frames=N))
    return tmp_path


def rename(folder: Path, form: str, shift: int = 0) -> None:
    """Give the frames of a folder other names."""
    for path in sorted(folder.glob("frame_*.jpg"), reverse=shift > 0):
        target = folder / form.format(int(path.stem[6:]) + shift)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def frames_of(root: Path, rules: FrameRules = FrameRules()) -> dict[str, list[bytes]]:  # noqa: B008 - it is frozen
    """The bytes of all frames of each plane."""
    video = open_video(str(root), "me", "me_000", rules)
    with JpegFiles() as files:
        return {
            name: [
                files.read(stream.source, n, *(int(x[0]) for x in stream.locate(stream.numbers[k : k + 1])))
                for k, n in enumerate(stream.numbers.tolist())
            ]
            for name, stream in video.planes.items()
        }


def to_denseflow(root: Path, inside: str, first: int) -> None:
    """Name frames as denseflow and MMAction2 do, img_00001.jpg, flow_x_00001.jpg and so on, in one folder per video."""
    rgb, flow = root / "me/rgb_frames/me_000", root / "me/flow_frames/me_000"
    for folder, prefix in ((rgb, "img"), (flow / "u", "flow_x"), (flow / "v", "flow_y")):
        rename(folder, f"{prefix}_{{:05d}}.jpg", first - 1)
        (root / inside).mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.rename(root / inside / path.name)
    shutil.rmtree(root / "me/rgb_frames")
    shutil.rmtree(root / "me/flow_frames")


@pytest.mark.parametrize("inside", ["me/me_000", "me_000"])
@pytest.mark.parametrize("first", [0, 1])
def test_denseflow_is_read_by_its_name(root: Path, inside: str, first: int) -> None:
    expected = frames_of(root)
    to_denseflow(root, inside, first)
    assert frames_of(root, FrameRules("denseflow")) == expected


@pytest.mark.parametrize("form", ["x/{:05d}.jpg", "x_{:05d}.jpg", "x/frame_{:010d}.jpg", "x/img_{:06d}.jpg"])
def test_tsn_is_read_by_its_name(root: Path, form: str) -> None:
    expected = frames_of(root)
    flow = root / "me/flow_frames/me_000"
    rename(root / "me/rgb_frames/me_000", "img_{:05d}.jpg")
    for plane, name in (("u", form), ("v", form.replace("x", "y", 1))):
        rename(flow / plane, "../" + name)
    assert frames_of(root, FrameRules("tsn")) == expected


def test_more_frames_than_digits_stay_in_order(root: Path) -> None:
    folder = root / "me/rgb_frames/me_000"
    expected = frames_of(root)["rgb"]
    rename(folder, "img_{}.jpg")  # img_9.jpg, img_10.jpg
    assert frames_of(root, FrameRules("tsn"))["rgb"] == expected


@pytest.mark.parametrize("top", ["me_000", "data/frames/me_000"])
def test_one_common_folder_in_a_tar_is_passed_over(root: Path, top: str) -> None:
    expected = frames_of(root)
    for kind in ("rgb_frames", "flow_frames"):
        folder = root / "me" / kind / "me_000"
        with tarfile.open(f"{folder}.tar", "w") as archive:
            archive.add(folder, top)
        shutil.rmtree(folder)
    assert frames_of(root) == expected


def test_one_stream_needs_no_other(root: Path) -> None:
    expected = frames_of(root)
    shutil.move(root / "me/flow_frames", root / "kept")
    assert frames_of(root, FrameRules(streams=("rgb",))) == {"rgb": expected["rgb"]}
    shutil.move(root / "kept", root / "me/flow_frames")
    shutil.rmtree(root / "me/rgb_frames")
    video = open_video(str(root), "me", "me_000", FrameRules(streams=("flow",), stride=2))
    assert (list(video.planes), video.stride, video.last_rgb) == (["flow_u", "flow_v"], 2, None)


def hint_of(root: Path) -> str:
    with pytest.raises(SourceError) as caught:
        frames_of(root)
    return caught.value.hint


def run(root: Path, hint: str) -> None:
    """Do what a hint says, with the command that it ends with."""
    command = re.search(r"(?:mv|gunzip|ln|mkdir|cd|tar|for) .*$", hint)
    assert command is not None, hint
    subprocess.run(["bash", "-c", command[0].split(" completes it")[0]], check=True, cwd=root)


def test_a_folder_names_what_it_holds_and_the_layout_that_reads_it(root: Path) -> None:
    rename(root / "me/rgb_frames/me_000", "img_{:05d}.jpg")
    hint = hint_of(root)
    assert hint == f"{root}/me/rgb_frames/me_000 holds 12 files named img_%05d.jpg: data.layout=denseflow reads them"
    assert len(frames_of(root, FrameRules("denseflow"))["rgb"]) == N
    rename(root / "me/rgb_frames/me_000", "frame_{:010d}.jpg")


def test_planes_called_x_and_y_are_read_as_tsn(root: Path) -> None:
    for old, new in (("u", "x"), ("v", "y")):
        (root / "me/flow_frames/me_000" / old).rename(root / "me/flow_frames/me_000" / new)
    assert hint_of(root).endswith("data.layout=tsn reads them")
    assert len(frames_of(root, FrameRules("tsn"))["flow_u"]) == N


def test_denseflow_in_one_folder_is_found(root: Path) -> None:
    to_denseflow(root, "me/me_000", 0)
    assert hint_of(root) == f"{root}/me/me_000 is there: data.layout=denseflow reads it"


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg"])
def test_the_command_for_another_ending_helps(root: Path, suffix: str) -> None:
    expected = frames_of(root)
    rename(root / "me/rgb_frames/me_000", f"frame_{{:010d}}{suffix}")
    assert f"holds 12 files named frame_%010d{suffix}" in hint_of(root)
    run(root, hint_of(root))
    assert frames_of(root) == expected


def test_pngs_are_named(root: Path) -> None:
    rename(root / "me/rgb_frames/me_000", "frame_{:010d}.png")
    assert "frames are JPEGs here" in hint_of(root)


def test_the_command_for_frames_one_folder_deeper_helps(root: Path) -> None:
    expected = frames_of(root)
    rename(root / "me/rgb_frames/me_000", "deeper/frame_{:010d}.jpg")
    run(root, hint_of(root))
    assert frames_of(root) == expected


@pytest.mark.parametrize(
    "how", ["as .tar.gz", "as .tar", "other Unicode", "other capitals", "EPIC-55", "half unpacked"]
)
def test_the_command_for_a_video_that_is_elsewhere_helps(tmp_path: Path, how: str) -> None:
    video = unicodedata.normalize("NFC", "me_Küche")
    write_video(tmp_path, Video("me_000", num_frames=N))
    folder = tmp_path / "me/rgb_frames/me_000"
    flow = tmp_path / "me/flow_frames/me_000"
    expected = frames_of(tmp_path)["rgb"]
    flow.rename(flow.with_name(video))
    folder = folder.rename(folder.with_name(video))
    archive = folder.with_name(f"{video}.tar")
    if "tar" in how or how == "half unpacked":
        with tarfile.open(archive, "w") as tar:
            tar.add(folder, ".")
    if "tar" in how:
        shutil.rmtree(folder)
        data = gzip.compress(archive.read_bytes())
        archive.unlink()
        archive.with_name(f"{archive.name}{'.gz' if how == 'as .tar.gz' else ''}").write_bytes(data)
    elif how == "half unpacked":
        (folder / "frame_0000000004.jpg").unlink()
    elif how == "EPIC-55":
        (tmp_path / "rgb/train/me").mkdir(parents=True)
        folder.rename(tmp_path / "rgb/train/me" / video)
        shutil.rmtree(tmp_path / "me/rgb_frames")
    elif how == "other capitals":
        folder.rename(folder.with_name(video.upper()))
    else:
        folder.rename(folder.with_name(unicodedata.normalize("NFD", video)))
    with pytest.raises(SourceError) as caught:
        open_video(str(tmp_path), "me", video).check_span(1, N)
    run(tmp_path, caught.value.hint)
    found = open_video(str(tmp_path), "me", video)
    found.check_span(1, N)
    assert len(found.planes["rgb"].numbers) == len(expected)


def test_up_to_three_names_of_what_is_there_are_told_with_their_count(root: Path) -> None:
    for name in ("P02", "P03", "P01", "P09", "P04"):
        (root / "me/rgb_frames" / name).mkdir()
    shutil.rmtree(root / "me/rgb_frames/me_000")
    assert hint_of(root) == f"{root}/me/rgb_frames holds P01, P02, P03, ... and 2 more"


def test_a_wrong_root_says_what_is_there_and_one_folder_deeper(root: Path) -> None:
    assert explain_root(str(root), ["me"]) == ""
    assert explain_root(f"{root}/none/at/all", ["me"]) == f"no such folder; {root} holds me"
    (root / "EPIC").mkdir()
    shutil.move(root / "me", root / "EPIC/me")
    assert explain_root(str(root), ["me", "you"]) == (
        f"no folder of a participant (me, you) is in it; {root} holds EPIC; they are one folder deeper: "
        f"data.frames={root}/EPIC"
    )


def test_what_cannot_be_listed_is_no_fault_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(root / "me/rgb_frames/me_000")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", denied)
    assert hint_of(root) == ""
