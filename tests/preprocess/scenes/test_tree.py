"""The synthetic tree: EPIC's layout, a task that neither stream can solve alone, and writing that survives anything."""

import csv
import io
import json
import re
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import ConfigError, UserError
from pipeline.format.split import open_split
from preprocess import pack
from preprocess.scenes import TASKS
from preprocess.scenes import tree as scenes_tree
from preprocess.scenes.discs import ADDITIVE, CLASS_NAMES, CLASSES, draw_video
from preprocess.scenes.task import Scene
from preprocess.scenes.tree import SynthTree, write_tree

ROOT = Path(__file__).parents[3]
SMALL = {"videos": (2, 1, 2), "clips": 8, "frames": 4}
ONE = [(Scene(seed=0, video=0, group=0), 1)]
TINY = {"videos": (1, 1, 1), "clips": 4, "frames": 2}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> SynthTree:
    return write_tree(tmp_path_factory.mktemp("synth") / "tree", **SMALL)


def clip_rows(tree: SynthTree, split: str) -> list[dict[str, str]]:
    with open(tree.annotations[split], newline="") as file:
        return list(csv.DictReader(file))


def video_files(tree: SynthTree, participant: str, stream: str, video: str) -> dict[str, bytes]:
    """Name -> bytes of one video's files, from its folder or its .tar."""
    folder = tree.frames / participant / stream / video
    if folder.is_dir():
        return {f"./{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.jpg")}
    with tarfile.open(f"{folder}.tar") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}


def clip_files(tree: SynthTree, row: dict[str, str]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """The JPEGs of one clip: of RGB, of u and of v, each flow frame once."""
    stride = 1 if re.fullmatch(r"P\d\d_1\d\d", row["video_id"]) else 2
    numbers = range(int(row["start_frame"]), int(row["stop_frame"]) + 1)
    flow_numbers = sorted({(number - 1) // stride + 1 for number in numbers})
    rgb = video_files(tree, row["participant_id"], "rgb_frames", row["video_id"])
    flow = video_files(tree, row["participant_id"], "flow_frames", row["video_id"])
    u, v = ([flow[f"./{plane}/frame_{number:010d}.jpg"] for number in flow_numbers] for plane in "uv")
    return [rgb[f"./frame_{number:010d}.jpg"] for number in numbers], u, v


def decode(jpegs: list[bytes]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs]).astype(float)


def pattern_seen(rgb: np.ndarray) -> int:
    """0 (rows) where brightness changes more downwards than sideways in RGB [T, H, W, 3], else 1 (columns)."""
    gray = rgb.mean(-1)
    return int(np.abs(np.diff(gray, axis=1)).mean() < np.abs(np.diff(gray, axis=2)).mean())


def motion_seen(u: np.ndarray, v: np.ndarray) -> int:
    """0 (rise) where what moves goes up in flow [T, H, W], else 1 (sink); v points downwards."""
    moves = np.hypot(u - 127.5, v - 127.5) > 25
    return int((v - 127.5)[moves].mean() > 0)


def every_clip(tree: SynthTree) -> list[dict[str, str]]:
    return [row for split in tree.annotations for row in clip_rows(tree, split)]


@pytest.mark.slow
def test_rules_of_thumb_read_the_class_off_any_crop_of_the_decoded_frames(tree: SynthTree) -> None:
    rng = np.random.default_rng(0)
    for row in every_clip(tree):
        rgb, u, v = (decode(jpegs) for jpegs in clip_files(tree, row))
        for side in (64, 96, 224):
            top, left = rng.integers(256 - side + 1), rng.integers(456 - side + 1)
            crop = (slice(None), slice(top, top + side), slice(left, left + side))
            assert (pattern_seen(rgb[crop]), motion_seen(u[crop], v[crop])) == CLASSES[int(row["verb"])]


def test_a_mirror_that_inverts_u_keeps_the_class(tree: SynthTree) -> None:
    for row in clip_rows(tree, "test"):
        rgb, u, v = (decode(jpegs)[:, :, ::-1] for jpegs in clip_files(tree, row))
        assert (pattern_seen(rgb), motion_seen(255 - u, v)) == CLASSES[int(row["verb"])]


def best_accuracy(seen: list[object], labels: list[str]) -> float:
    """What the best conceivable function of `seen` scores: for each thing seen, its most frequent label."""
    labels_of: dict[object, Counter[str]] = {}
    for thing, label in zip(seen, labels, strict=True):
        labels_of.setdefault(thing, Counter())[label] += 1
    return sum(max(counts.values()) for counts in labels_of.values()) / len(labels)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_no_function_of_one_stream_passes_half_but_both_streams_decide(tree: SynthTree, split: str) -> None:
    rows = clip_rows(tree, split)
    labels = [row["verb"] for row in rows]
    clips = [clip_files(tree, row) for row in rows]
    rgb, flow = [tuple(rgb) for rgb, _, _ in clips], [(*u, *v) for _, u, v in clips]
    assert best_accuracy(rgb, labels) == ADDITIVE.one_stream == 0.5
    assert best_accuracy(flow, labels) == 0.5
    assert best_accuracy(list(zip(rgb, flow, strict=True)), labels) == 1


@pytest.mark.parametrize("stride", [1, 2])
def test_rgb_does_not_depend_on_motion_nor_flow_on_appearance(stride: int) -> None:
    scenes = [Scene(seed=3, video=1, group=group) for group in range(4)]
    labels = [0, 1, 2, 3]
    other_motion, other_appearance = ([CLASSES.index((a ^ x, m ^ y)) for a, m in CLASSES] for x, y in ((0, 1), (1, 0)))
    rgb, flow = draw_video(list(zip(scenes, labels, strict=True)), 4, stride)
    rgb_moved, flow_moved = draw_video(list(zip(scenes, other_motion, strict=True)), 4, stride)
    rgb_dressed, flow_dressed = draw_video(list(zip(scenes, other_appearance, strict=True)), 4, stride)
    assert rgb_moved == rgb
    assert flow_dressed == flow
    assert all(rgb_dressed[name] != rgb[name] for name in rgb)
    assert all(flow_moved[name] != flow[name] for name in flow if name.startswith("v/"))
    assert all(flow_moved[name] == flow[name] for name in flow if name.startswith("u/"))


@pytest.mark.parametrize("stride", [1, 2])
def test_both_streams_show_the_discs_of_a_time_at_the_same_positions(stride: int) -> None:
    rgb, flow = (
        decode([files[name] for name in sorted(files) if name[0] in "fv"]) for files in draw_video(ONE, 8, stride)
    )
    detail = sum(np.abs(np.gradient(rgb.mean(-1), axis=axis)) for axis in (1, 2))  # stripes have some, surroundings not
    for frame in range(8):
        contrast = [detail[frame][v > 150].mean() / detail[frame][v < 135].mean() for v in flow]
        assert np.argmax(contrast) == frame // stride
        assert max(contrast) > 2 * np.median(contrast)


def test_every_video_has_each_class_equally_often(tree: SynthTree) -> None:
    for split in tree.annotations:
        counts = Counter((row["video_id"], row["verb"]) for row in clip_rows(tree, split))
        assert set(counts.values()) == {SMALL["clips"] // 4}
        assert {label for _, label in counts} == {"0", "1", "2", "3"}
    with open(tree.verb_classes, newline="") as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == [(str(i), n) for i, n in enumerate(CLASS_NAMES)]


def test_the_layout_is_that_of_epic(tree: SynthTree) -> None:
    paths = {path.relative_to(tree.frames).as_posix() for path in tree.frames.glob("P*/*/*")}
    videos = ["P01/{}/P01_01", "P01/{}/P01_102.tar", "P02/{}/P02_01", "P02/{}/P02_02.tar", "P03/{}/P03_101"]
    assert paths == {video.format(stream) for video in videos for stream in ("rgb_frames", "flow_frames")}
    assert [len(clip_rows(tree, split)) for split in ("train", "val", "test")] == [16, 8, 16]
    header = tree.annotations["val"].read_text().splitlines()[0]
    assert header == "narration_id,participant_id,video_id,start_frame,stop_frame,verb"


@pytest.mark.parametrize(("video", "num_flow"), [("P01_01", 16), ("P01_102", 32), ("P02_02", 16), ("P03_101", 32)])
def test_flow_has_a_frame_for_two_of_rgb_in_2018_and_for_one_in_2020(
    tree: SynthTree, video: str, num_flow: int
) -> None:
    rgb = video_files(tree, video[:3], "rgb_frames", video)
    flow = video_files(tree, video[:3], "flow_frames", video)
    assert set(rgb) == {f"./frame_{number:010d}.jpg" for number in range(1, 33)}
    assert set(flow) == {f"./{plane}/frame_{number:010d}.jpg" for plane in "uv" for number in range(1, num_flow + 1)}
    images = [Image.open(io.BytesIO(jpeg)) for jpeg in (*rgb.values(), *flow.values())]
    assert {(image.format, image.size) for image in images} == {("JPEG", (456, 256))}
    assert Counter(image.mode for image in images) == {"RGB": 32, "L": 2 * num_flow}


def test_packing_reads_the_tree_and_finds_each_videos_stride(tree: SynthTree, tmp_path: Path) -> None:
    annotations = json.dumps({split: [str(path)] for split, path in tree.annotations.items()})
    config = ["-c", str(ROOT / "configs/xnorm.yaml"), f"data.frames={tree.frames}", f"data.annotations={annotations}"]
    shards = [f"data.shards={tmp_path}", "data.preset=none", "data.frames_per_clip=all", "data.workers=1"]
    assert pack.main([*config, *shards]) == 0
    for split in tree.annotations:
        table = open_split(tmp_path / split).table
        rows = {row["narration_id"]: row for row in clip_rows(tree, split)}
        assert {clip.decode(): str(label) for clip, label in zip(table.clip_id, table.targets[:, 0], strict=True)} == {
            name: row["verb"] for name, row in rows.items()
        }
        video = np.repeat(table.video_id, np.diff(table.first_frame))
        stride = np.where(np.isin(video, [b"P01_102", b"P03_101"]), 1, 2)
        assert (table.flow_index == (table.rgb_index - 1) // stride + 1).all()


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_bytes_depend_on_the_seed_and_not_on_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "alone", **TINY)
    write_tree(tmp_path / "seed", seed=1, **TINY)
    monkeypatch.setattr(scenes_tree, "SMALL", 0)
    write_tree(tmp_path / "pool", workers=2, **TINY)
    assert contents(tmp_path / "alone") == contents(tmp_path / "pool")
    one, other = ({n: b for n, b in contents(tmp_path / tree).items() if "P0" in n} for tree in ("alone", "seed"))
    assert all(one[name] != other[name] for name in one)


def test_an_interrupted_tree_is_finished_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "whole", **TINY)
    drawn = []

    def draw_one(*arguments: object) -> object:
        if drawn:
            raise KeyboardInterrupt
        drawn.append(arguments)
        return draw_video(*arguments)

    with monkeypatch.context() as patch:
        patch.setitem(TASKS, "additive", replace(ADDITIVE, draw=draw_one))
        with pytest.raises(KeyboardInterrupt):
            write_tree(tmp_path / "cut", **TINY)
    (tmp_path / "cut" / "P01" / "rgb_frames" / "P01_101" / "frame_0000000003.jpg").write_bytes(b"half a pict")
    (tmp_path / "cut" / "P01" / "rgb_frames" / ".P01_02.tar.77.tmp").write_bytes(b"half a tar")
    write_tree(tmp_path / "cut", **TINY)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_complete_tree_is_kept(tmp_path: Path) -> None:
    write_tree(tmp_path, **TINY)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write_tree(tmp_path, **TINY).videos
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds files that are not a synthetic tree's; name a new or an empty folder"):
        write_tree(tmp_path, **TINY)
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_tree_of_other_options_is_refused_with_both_named(tmp_path: Path) -> None:
    write_tree(tmp_path, **TINY)
    with pytest.raises(UserError, match=r'another tree, .*"seed": 0.*asked for is .*"seed": 5.*name another'):
        write_tree(tmp_path, seed=5, **TINY)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("seed", -1, r"--seed: found -1; allowed: 0 and above"),
        ("videos", (2, 0, 1), r"--videos: found \[2, 0, 1\]; allowed: at least one"),
        ("clips", 6, r"--clips: found 6; allowed: multiples of 4"),
        ("clips", 0, r"--clips: found 0; allowed: multiples of 4"),
        ("frames", 5, r"--frames: found 5; allowed: multiples of 2"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, option: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_tree(tmp_path / "tree", **{option: value})
    assert not (tmp_path / "tree").exists()
