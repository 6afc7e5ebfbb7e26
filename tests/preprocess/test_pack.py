"""Packing from frames on the disk to a split: what is stored, what is refused, what is kept."""

import csv
import errno
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tfrecord.reader import tfrecord_loader

from chaos.pack import contents
from common import lock
from common.display import Display
from common.errors import UserError
from common.lock import locked
from configs.load import load_config
from pipeline.format.index import Geometry, ShardError, Target
from pipeline.format.split import open_split
from preprocess import pack
from preprocess.annotations import Clip
from preprocess.packing import pack_split as job
from preprocess.packing import split_plan
from preprocess.packing.report import Outcome
from preprocess.packing.verify import verify_split
from preprocess.workers import Workers
from tests.conftest import Capture
from tests.trees import HEADER, Video, write_annotations, write_video

REAL = Path(__file__).parents[2] / "../shared/data"
VIDEOS = [Video("P01_01"), Video("P02_101", tar=True), Video("P03_02", tar=True)]


class Tree:
    """A folder with frames and annotations, and the command that packs them."""

    def __init__(self, folder: Path, videos: list[Video]) -> None:
        self.folder, self.split = folder, folder / "shards" / "train"
        for video in videos:
            write_video(folder / "frames", video)
        self.annotations = write_annotations(folder / "train.csv", videos)
        (folder / "config.yaml").write_text("name: test\n")

    def arguments(self, *more: str) -> list[str]:
        paths = f"data.frames={self.folder / 'frames'}", f"data.shards={self.folder / 'shards'}"
        annotations = f"data.annotations={{train: [{self.annotations}]}}"
        return [
            "-c",
            str(self.folder / "config.yaml"),
            "data.preset=none",
            "data.workers=1",
            annotations,
            *paths,
            *more,
        ]

    def pack(self, *more: str) -> int:
        return pack.main(self.arguments(*more))

    def bytes(self) -> dict[str, bytes]:
        return contents(self.split)

    def frame(self, stream: str = "rgb_frames/P01_01", number: int = 1) -> Path:
        return self.folder / "frames" / "P01" / stream / f"frame_{number:010d}.jpg"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path, VIDEOS)


@pytest.fixture
def big_tree(tmp_path: Path) -> Tree:
    """Thirty overlapping clips, about 5 MiB: six shards of 1 MiB."""
    clips = tuple((1 + n % 21, 20 + n % 21, n % 3) for n in range(30))
    return Tree(tmp_path, [Video("P01_01", height=128, width=160, clips=clips)])


def test_what_is_stored_are_the_files_own_bytes(tree: Tree) -> None:
    assert tree.pack() == 0
    split = open_split(tree.split)
    table, shard = split.table, split.shard_paths[0].read_bytes()
    assert table.clip_id.tolist() == [f"{video.id}_{n}".encode() for video in VIDEOS for n in (0, 1)]
    assert split.labels.tolist() == [0, 1] * 3
    assert table.rgb_index[16:32].tolist() == (21 + np.linspace(0, 19, 16).astype(int)).tolist()
    for row in range(32):  # the folder of P01_01
        sources = ("rgb_frames/P01_01", "flow_frames/P01_01/u", "flow_frames/P01_01/v")
        for column, stream in enumerate(sources):
            number = int((table.rgb_index if column == 0 else table.flow_index)[row])
            begin, size = int(table.offset[row, column]), int(table.size[row, column])
            assert shard[begin : begin + size] == tree.frame(stream, number).read_bytes()
    assert split.index.geometry == [Geometry(height=64, width=96, clips=6)]
    assert split.index.targets == (Target(name="label", clips={"0": 3, "1": 3}),)
    assert split.index.left_out == []
    assert list(tree.bytes()) == ["00000.idx", "00000.tfrecord", "frames.npz", "index.json"]


def test_all_frames_of_a_segment_can_be_stored(tree: Tree) -> None:
    assert tree.pack("data.frames_per_clip=all") == 0
    table = open_split(tree.split).table
    assert np.diff(table.first_frame).tolist() == [20] * 6
    assert table.rgb_index[:40].tolist() == list(range(1, 41))
    assert table.flow_index[:40].tolist() == [n for n in range(1, 21) for _ in range(2)]


def test_folders_and_tars_give_the_same_bytes(tmp_path: Path) -> None:
    trees = [Tree(tmp_path / str(tar), [replace(video, tar=tar) for video in VIDEOS]) for tar in (False, True)]
    assert [tree.pack() for tree in trees] == [0, 0]
    assert trees[0].bytes() == trees[1].bytes()


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(big_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    assert big_tree.pack("data.shard_mib=1") == 0
    alone = big_tree.bytes()
    assert len(open_split(big_tree.split).shard_paths) > 4
    shutil.rmtree(big_tree.split)
    monkeypatch.setattr("preprocess.workers.SMALL_JOB_BYTES", 0)
    assert big_tree.pack("data.shard_mib=1", "data.workers=3") == 0
    assert big_tree.bytes() == alone


def test_shards_stay_near_their_size_and_hold_whole_clips(big_tree: Tree) -> None:
    assert big_tree.pack("data.shard_mib=1") == 0
    shards = open_split(big_tree.split).index.shards
    assert all(shard.bytes < 1.1 * 2**20 for shard in shards)
    assert all(shard.bytes > 0.8 * 2**20 for shard in shards[:-1])
    assert sum(shard.clips for shard in shards) == 30


def test_several_files_make_one_split_and_other_splits_are_skipped(tree: Tree) -> None:
    second = write_annotations(tree.folder / "more.csv", [Video("P01_01", clips=((5, 30, 7),))])
    text = second.read_text().replace("P01_01_0", "P01_01_x")
    second.write_text(text)
    assert tree.pack(f"data.annotations={{train: [{tree.annotations}, {second}], test: [{second}]}}") == 0
    assert open_split(tree.split).table.clip_id.tolist()[-1] == b"P01_01_x"
    assert sorted(path.name for path in tree.split.parent.iterdir()) == ["test", "train"]


def write_image(path: Path, mode: str = "RGB", size: tuple[int, int] = (96, 64), **options: object) -> None:
    stream = io.BytesIO()
    Image.new(mode, size, 77).save(stream, "JPEG", **options)
    path.write_bytes(stream.getvalue())


def test_everything_wrong_is_listed_at_once_and_nothing_is_packed(tree: Tree, capsys: Capture) -> None:
    tree.frame(number=1).write_bytes(tree.frame(number=1).read_bytes()[:-9])
    tree.frame(number=3).write_text("a text file called .jpg")
    write_image(tree.frame(number=4), "CMYK")
    write_image(tree.frame(number=21), "RGB", (97, 64))
    write_image(tree.frame("flow_frames/P01_01/u", 12), "RGB")
    write_image(tree.frame(number=31), "L")
    shutil.rmtree(tree.folder / "frames/P03")
    assert tree.pack() == 1
    error = capsys.readouterr().err
    for line in (
        "train: 4 of 6 clips cannot be packed from ",
        "clip P01_01_0: P01/rgb_frames/P01_01/frame_0000000001.jpg is cut off",
        "clip P01_01_0: P01/rgb_frames/P01_01/frame_0000000003.jpg is no JPEG",
        "frame_0000000004.jpg has channels: 4 (CMYK); allowed for rgb: 3 (colour)",
        "clip P01_01_1: P01/flow_frames/P01_01/u/frame_0000000012.jpg has channels: 3 (colour); allowed for flow_u: 1",
        "is 96x64, the clip's first frame is 97x64",
        "frame_0000000031.jpg has channels: 1 (grayscale); allowed for rgb: 3",
        "clips P03_02_0, P03_02_1: P03/rgb_frames/P03_02 is missing, as a folder and as a .tar",
        "data.on_bad_clip=skip",
    ):
        assert line in error
    assert "Traceback" not in error
    assert not (tree.split / "index.json").exists()
    assert not list(tree.split.glob(".*"))


def test_the_header_check_leaves_decoding_out(tree: Tree) -> None:
    data = tree.frame().read_bytes()
    tables = data.index(b"\xff\xc4")
    tree.frame().write_bytes(data[: tables + 4] + b"\xee" * 100 + data[tables + 104 :])
    assert tree.pack("data.check=header") == 0
    shutil.rmtree(tree.split)
    assert tree.pack("data.check=decode") == 1


def test_bad_clips_can_be_left_out_and_are_listed(tree: Tree, capsys: Capture) -> None:
    tree.frame(number=1).write_text("no image")
    shutil.rmtree(tree.folder / "frames/P03")
    assert tree.pack("data.on_bad_clip=skip") == 0
    assert "left out 3 bad clips" in capsys.readouterr().out
    split = open_split(tree.split)
    assert split.table.clip_id.tolist() == [b"P01_01_1", b"P02_101_0", b"P02_101_1"]
    assert [entry.clip_id for entry in split.index.left_out] == ["P01_01_0", "P03_02_0", "P03_02_1"]
    assert split.index.left_out[0].model_dump() == {
        "clip_id": "P01_01_0",
        "file": "P01/rgb_frames/P01_01/frame_0000000001.jpg",
        "why": "is no JPEG (it does not start with ff d8)",
    }
    assert tree.pack("data.on_bad_clip=skip", "--verify") == 0
    assert tree.pack() == 1  # the split that is there lacks clips, which on_bad_clip=error does not want
    assert "complete, but without 3 bad clips" in capsys.readouterr().err


def test_splits_that_share_clips_are_warned_of(tree: Tree, capsys: Capture) -> None:
    same = str(tree.annotations)
    assert tree.pack(f"data.annotations={{train: [{same}], val: [{same}]}}") == 0
    assert "warning: 6 clips are in both train and val" in capsys.readouterr().out


def test_leaving_bad_clips_out_keeps_the_shards_that_are_whole(big_tree: Tree, capsys: Capture) -> None:
    first = big_tree.frame(number=1)  # of the clips 0 and 21 alone
    first.write_bytes(first.read_bytes()[:-2] + b"\0\0")
    assert big_tree.pack("data.shard_mib=1") == 1
    capsys.readouterr()
    assert big_tree.pack("data.shard_mib=1", "data.on_bad_clip=skip") == 0
    assert "4 shards were there" in capsys.readouterr().out


def test_a_complete_split_is_kept(tree: Tree, capsys: Capture) -> None:
    assert tree.pack() == 0
    before = {path: path.stat().st_mtime_ns for path in tree.split.iterdir()}
    shutil.rmtree(tree.folder / "frames")
    assert tree.pack() == 0
    assert {path: path.stat().st_mtime_ns for path in tree.split.iterdir()} == before
    assert "complete, kept as it is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("data.frames_per_clip=8", "data.frames_per_clip was 16, is 8"),
        ("data.shard_mib=1", "data.shard_mib was 256, is 1"),
        ("data.codec=raw", "packed otherwise: data.codec was jpeg, is raw"),
        ("data.codec=jpeg-restarts", "data.codec was jpeg, is jpeg-restarts"),
        ("data.annotations={train: [OTHER]}", "its clips were others (data.annotations)"),
    ],
)
def test_a_complete_split_of_something_else_is_not_touched(
    tree: Tree, capsys: Capture, override: str, match: str
) -> None:
    assert tree.pack() == 0
    before = tree.bytes()
    other = write_annotations(tree.folder / "other.csv", VIDEOS[:1])
    assert tree.pack(override.replace("OTHER", str(other))) == 1
    error = capsys.readouterr().err
    assert match in error
    assert f"remove {tree.split} to pack it anew" in error
    assert tree.bytes() == before


def test_a_complete_split_that_lost_a_shard_is_packed_again(tree: Tree) -> None:
    assert tree.pack() == 0
    whole = tree.bytes()
    (tree.split / "00000.tfrecord").unlink()
    assert tree.pack() == 0
    assert tree.bytes() == whole


def test_complete_shards_are_kept_when_packing_goes_on(big_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    assert big_tree.pack("data.shard_mib=1") == 0
    whole = big_tree.bytes()
    shutil.rmtree(big_tree.split)
    write, written = job.write_shard, []

    def stop_at_the_third(task: job.ShardTask) -> object:
        written.append(task.number)
        if len(written) == 3:
            raise UserError("stopped here")
        return write(task)

    monkeypatch.setattr(job, "write_shard", stop_at_the_third)
    assert big_tree.pack("data.shard_mib=1") == 1
    (big_tree.split / ".00005.tfrecord.999.tmp").write_text("what a dead run left")
    assert big_tree.pack("data.shard_mib=1") == 0
    assert written == [0, 1, 2, *range(2, len(written) - 1)]
    assert big_tree.bytes() == whole


def test_a_mended_file_costs_its_own_shard_only(big_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = big_tree.frame(number=40)
    good = frame.read_bytes()
    frame.write_bytes(b"\0\0" + good[2:])
    assert big_tree.pack("data.shard_mib=1") == 1
    kept = len(list(big_tree.split.glob("*.part.npz")))
    assert kept > 0
    frame.write_bytes(good)
    write, written = job.write_shard, []
    monkeypatch.setattr(job, "write_shard", lambda task: written.append(task.number) or write(task))
    assert big_tree.pack("data.shard_mib=1") == 0
    assert len(written) == len(open_split(big_tree.split).shard_paths) - kept


def test_two_packers_do_not_share_a_split(tree: Tree, capsys: Capture) -> None:
    tree.split.mkdir(parents=True)
    with locked(tree.split):
        assert tree.pack() == 1
    assert f"{tree.split}: another process is writing here" in capsys.readouterr().err
    assert tree.pack() == 0


def test_the_plan_writes_nothing_and_says_what_there_is(
    tree: Tree, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # so that a row is a line
    shutil.rmtree(tree.folder / "frames/P03")
    assert tree.pack("--plan") == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert not tree.split.parent.exists()
    assert "train 6 3 1 288 about " in out  # clips, videos, one of them without frames, 6 * 16 * 3 JPEGs
    assert "P01_01 train folder counts and id 2 2 40 20 0" in out
    assert "P02_101 train .tar counts and id 1 2 40 40 0" in out
    assert "P03_02 train missing id 2 2 - - -" in out
    assert "clips P03_02_0, P03_02_1: P03/rgb_frames/P03_02 is missing" in out


def test_the_plan_does_without_frames(tree: Tree, capsys: Capture) -> None:
    shutil.rmtree(tree.folder / "frames")
    assert tree.pack("--plan") == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "is not there; what follows is known from the annotations alone" in out
    assert "train 6 3 3 288 unknown" in out


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the annotations of EPIC-KITCHENS-100")
def test_the_plan_counts_the_real_annotations(tmp_path: Path, capsys: Capture) -> None:
    train, test = (REAL / "epic_annotations" / f"EPIC_100_{name}.csv" for name in ("train", "validation"))
    annotations = f"data.annotations={{train: [{train}], val: [{train}], test: [{test}]}}"
    tree = Tree(tmp_path, [])
    assert tree.pack("--plan", "data.preset=xnorm-verbs", annotations) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for start in ("train 11,186 58 58", "val 1,908 15 15", "test 2,115 "):
        assert start in out


def test_wrong_annotations_and_configs_are_named(tree: Tree, capsys: Capture) -> None:
    with open(tree.annotations, "a", newline="") as file:
        csv.writer(file).writerow(["x", "P01", "../P01_01", 1, 9, 0])
    assert tree.pack() == 1
    assert "train.csv:8: video_id: found '../P01_01'" in capsys.readouterr().err
    assert tree.pack("data.annotations={train: [nowhere.csv]}") == 2
    assert "data.annotations.train: nowhere.csv: cannot be read" in capsys.readouterr().err
    assert tree.pack("data.framse=x") == 2
    tree.annotations.write_text(",".join(HEADER) + "\nx,P01,P01_01,1,9,0\n")
    capsys.readouterr()
    assert tree.pack("data.preset=xnorm-verbs") == 1
    assert "no row belongs to the train split of preset 'xnorm-verbs'" in capsys.readouterr().err


def test_shards_that_cannot_be_written_are_one_message(tree: Tree, capsys: Capture) -> None:
    tree.split.parent.write_text("a file where a folder should be")
    assert tree.pack() == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tree.split}")
    assert "Not a directory" in error


def test_a_file_that_shrinks_while_it_is_packed_is_a_bad_clip(
    tree: Tree, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = job.write_shard
    size = tree.frame().stat().st_size

    def shrink_first(task: job.ShardTask) -> object:
        tree.frame().write_bytes(b"short")
        return write(task)

    monkeypatch.setattr(job, "write_shard", shrink_first)
    assert tree.pack() == 1
    assert f"has 5 bytes, {size} a moment ago" in capsys.readouterr().err


def test_the_index_names_what_the_split_was_packed_from(tree: Tree) -> None:
    assert tree.pack("data.frames_per_clip=8", "data.check=header") == 0
    index = json.loads((tree.split / "index.json").read_text())
    assert index["split"] == "train"
    layout = {"frames_per_clip": 8, "preset": "none", "shard_mib": 256}
    codec = {"codec": "jpeg", "raw_short_side": None, "recoder": None}
    assert index["options"] == {**layout, **codec, "check": "header", "on_bad_clip": "error"}
    assert len(index["fingerprint"]) == 64


def test_how_the_frames_were_made_is_recorded_and_held_to(tree: Tree, capsys: Capture) -> None:
    made = {"version": 1, "options": {"method": "dis", "bound": 20.0}, "packages": {"cv2": "4.9"}}
    record = tree.folder / "frames" / "extract.json"
    record.write_text(json.dumps(made))
    assert tree.pack() == 0
    assert open_split(tree.split).source == made
    record.write_text(json.dumps(made | {"packages": {"cv2": "5.0"}}))
    assert tree.pack() == 0
    record.write_text(json.dumps(made | {"options": {"method": "dis", "bound": 5.0}}))
    capsys.readouterr()
    assert tree.pack() == 1
    assert "its frames were made with bound 20.0, are with 5.0 (extract.json)" in capsys.readouterr().err
    record.write_text("{")
    assert tree.pack() == 1
    assert "extract.json: is damaged" in capsys.readouterr().err


def test_another_splits_files_are_refused_by_name(tree: Tree, capsys: Capture) -> None:
    assert tree.pack() == 0
    copy = shutil.copytree(tree.split, tree.split.with_name("val"))
    with pytest.raises(ShardError, match=r"val: holds the split 'train', not 'val'.*copied here"):
        open_split(copy, "val")
    both = f"data.annotations={{train: [{tree.annotations}], val: [{tree.annotations}]}}"
    assert tree.pack(both) == 1
    assert "it is the split 'train', copied from another folder" in capsys.readouterr().err
    assert tree.pack(both, "--verify") == 1
    assert "holds the split 'train', not 'val'" in capsys.readouterr().err


def pack_targets(tree: Tree, targets: tuple[Target, ...], labels: tuple[tuple[int, ...], ...]) -> Outcome:
    """Pack two clips of P01_01 with these classes, as a command would whose annotations have so many targets."""
    clips = [Clip(f"P01_01_{n}", "P01", "P01_01", 1, 20, labels[n]) for n in range(2)]
    data = load_config(tree.folder / "config.yaml", tree.arguments()[2:]).data
    with Workers(1) as workers:
        return job.SplitPacker("train", clips, data, workers, Display(quiet=True), targets).pack()


def test_every_target_of_a_clip_is_stored_with_the_names_of_its_classes(tree: Tree) -> None:
    targets = (Target(name="verb", classes=("pour", "stir")), Target(name="noun"))
    pack_targets(tree, targets, ((1, 299), (0, -1)))
    split = open_split(tree.split)
    assert {name: labels.tolist() for name, labels in split.targets.items()} == {"verb": [1, 0], "noun": [299, -1]}
    assert split.classes == {"verb": ("pour", "stir"), "noun": None}
    assert split.labels.tolist() == [1, 0]
    assert [target.clips for target in split.index.targets] == [{"0": 1, "1": 1}, {"-1": 1, "299": 1}]
    records = list(tfrecord_loader(str(tree.split / "00000.tfrecord"), None, None))
    assert [(record["verb"].tolist(), record["noun"].tolist()) for record in records] == [([1], [299]), ([0], [-1])]
    assert all("label" not in record for record in records)
    with Workers(1) as workers:
        assert verify_split(tree.split, workers, Display(quiet=True))[1] == []


def test_other_names_of_classes_are_another_packing(tree: Tree) -> None:
    pack_targets(tree, (Target(name="label", classes=("a", "b")),), ((1,), (0,)))
    with pytest.raises(UserError, match="its classes had other names"):
        pack_targets(tree, (Target(name="label", classes=("a", "c")),), ((1,), (0,)))


@pytest.mark.parametrize("name", ["clip_id", "width", "rgb_index", "Verb", "rgb/000", ""])
def test_a_target_cannot_have_the_name_of_another_feature(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Target(name=name)


def test_complete_shards_are_held_to_the_frames_that_are_there(tree: Tree, capsys: Capture) -> None:
    assert tree.pack() == 0
    before = tree.bytes()
    assert tree.pack("data.check=header") == 0  # says nothing of the frames
    shutil.rmtree(tree.folder / "frames/P03")
    assert tree.pack() == 0  # removed to make room: there is nothing to hold them to
    write_video(tree.folder / "frames", VIDEOS[2])
    assert tree.pack() == 0
    write_image(tree.frame(number=5), quality=95)
    assert tree.pack() == 0  # the fifth is none of the 16 that are stored
    frame = tree.frame(number=1)
    size = frame.stat().st_size
    write_image(frame, quality=95)
    capsys.readouterr()
    assert tree.pack() == 1
    error = capsys.readouterr().err
    counts = re.findall(r" 288 files of ([\d,]+) bytes", error.partition("its frames were other ones:")[2])
    then, now = (int(count.replace(",", "")) for count in counts)
    assert now - then == frame.stat().st_size - size
    assert tree.bytes() == before


def test_a_tar_that_nobody_has_touched_is_not_indexed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, [VIDEOS[1]])
    assert tree.pack() == 0
    monkeypatch.setattr(split_plan, "plan_video", lambda task: pytest.fail("looked at the frames"))
    assert tree.pack() == 0
    monkeypatch.undo()
    write_video(tree.folder / "frames", VIDEOS[1], seed=1)
    assert tree.pack() == 1


def test_complete_shards_on_a_disk_that_cannot_be_written_are_kept(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert tree.pack() == 0
    (tree.split / "00007.part.npz").touch()  # left by an end between index and clean-up

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tree.split))

    monkeypatch.setattr(job, "make_folder", refuse)
    monkeypatch.setattr(lock.os, "open", refuse)
    assert tree.pack() == 0
    assert "complete, kept as it is" in capsys.readouterr().out
    monkeypatch.undo()
    assert tree.pack() == 0
    assert not (tree.split / "00007.part.npz").exists()
