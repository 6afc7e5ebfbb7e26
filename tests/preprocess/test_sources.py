"""What people bring, through the packer's command: one stream, other layouts and strides, class names, no labels."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import train
from configs.load import load_config
from pipeline.format.split import Split, open_split
from pipeline.loader import ClipLoader
from preprocess import pack
from tests.conftest import Capture
from tests.runs import SMALL
from tests.trees import HEADER, Video, write_annotations, write_video

REAL = Path(__file__).parents[2] / "../shared/data/epic_annotations"
Pack = Callable[..., int]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two videos of own ids, stride 1, and their annotations for train and val."""
    for split, participant in (("train", "me"), ("val", "you")):
        video = Video(f"{participant}_000")
        write_video(tmp_path / "frames", video)
        write_annotations(tmp_path / f"{split}.csv", [video])
    return tmp_path


@pytest.fixture
def run(root: Path) -> Pack:
    """Pack the splits of `root`, with more arguments."""

    def pack_it(*arguments: str, config: str = "configs/xnorm.yaml", splits: str = "train val") -> int:
        files = ", ".join(f"{split}: [{root}/{split}.csv]" for split in splits.split())
        own = [f"data.frames={root}/frames", f"data.shards={root}/shards", f"data.annotations={{{files}}}"]
        given = ["data.preset=none", "data.frames_per_clip=8", "data.workers=1", *own]
        return pack.main(["-c", config, *given, *arguments])

    return pack_it


def shards(root: Path, split: str = "train") -> Split:
    return open_split(root / "shards" / split)


def halve_flow(root: Path, *videos: str) -> None:
    for video in videos:
        for plane in "uv":
            for number in range(21, 41):
                folder = root / "frames" / video[:-4] / "flow_frames" / video / plane
                (folder / f"frame_{number:010d}.jpg").unlink()


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_stream_alone_packs_loads_and_trains_without_the_other(root: Path, run: Pack, stream: str) -> None:
    for participant in ("me", "you"):
        shutil.rmtree(root / "frames" / participant / ("flow_frames" if stream == "rgb" else "rgb_frames"))
    assert run(config=f"configs/{stream}.yaml") == 0
    assert list(shards(root).streams) == [stream]
    options = {"batch_size": 2, "num_frames": 8, "crop_size": 32, "train": False, "seed": 0, "device": "cpu"}
    with ClipLoader(root / "shards/train", num_threads=1, streams=[stream], **options) as loader:
        (batch,) = list(loader)
    assert (getattr(batch, stream).shape[0], batch.labels.tolist()) == (2, [0, 1])
    with pytest.raises(Exception, match=f"holds {stream}, not {'flow' if stream == 'rgb' else 'rgb'}"):
        ClipLoader(root / "shards/train", num_threads=1, **options)
    annotations = ", ".join(f"{split}: [{root}/{split}.csv]" for split in ("train", "val"))
    data = ("data.preset=none", f"data.shards={root}/shards", f"data.annotations={{{annotations}}}")
    own = (f"runs={root}", "name=alone", "train.epochs=1", "loader.batch_size=2", "model.num_classes=2")
    assert train.main(["-c", f"configs/{stream}.yaml", *SMALL, *data, *own]) == 0
    assert json.loads((root / "alone/summary.json").read_text())["epochs"] == 1


def test_shards_of_both_streams_serve_a_method_that_reads_one(root: Path, run: Pack, capsys: Capture) -> None:
    assert run(splits="train") == 0
    assert run(config="configs/rgb.yaml", splits="train") == 0
    assert "complete, kept as it is" in capsys.readouterr().out
    shutil.rmtree(root / "shards")
    assert run(config="configs/rgb.yaml", splits="train") == 0
    assert run(splits="train") == 1
    assert "it holds rgb, not rgb and flow" in capsys.readouterr().err


def test_names_of_classes_come_from_the_text_and_travel_with_the_data(root: Path, run: Pack) -> None:
    for split in ("train", "val"):
        lines = (root / f"{split}.csv").read_text().splitlines()
        named = [f"{line},{line[-1]}" for line in lines[1:]]
        named = [line[:-3] + ("pour", "stir")[int(line[-1])] + line[-2:] for line in named]
        (root / f"{split}.csv").write_text("\n".join([f"{lines[0]},verb_class", *named]) + "\n")
    assert run() == 0
    assert shards(root).classes == shards(root, "val").classes == {"label": ("pour", "stir")}


def test_a_test_split_without_labels_packs(root: Path, run: Pack, capsys: Capture) -> None:
    (root / "test.csv").write_text(",".join(HEADER[:5]) + "\nme_000_0,me,me_000,1,20\n")
    assert run(splits="train test") == 0
    assert f"note: {root}/test.csv has no labels (label): test can be scored into" in capsys.readouterr().out
    assert shards(root, "test").labels.tolist() == [-1]


def test_half_as_much_flow_in_all_videos_is_a_stride_and_is_said(root: Path, run: Pack, capsys: Capture) -> None:
    halve_flow(root, "me_000", "you_000")
    (root / "train.csv").write_text((root / "train.csv").read_text() + "b,you,you_000,1,20,0\n")
    assert run(splits="train") == 0
    assert "2 of 2 videos have half as many flow frames as RGB frames" in capsys.readouterr().out
    rgb, flow = shards(root).table.frame_index.T
    assert (flow == (rgb - 1) // 2 + 1).all()


def test_half_as_much_flow_in_some_videos_is_refused_until_the_stride_is_given(
    root: Path, run: Pack, capsys: Capture
) -> None:
    halve_flow(root, "me_000")
    (root / "train.csv").write_text((root / "train.csv").read_text() + "b,you,you_000,1,20,0\n")
    assert run(splits="train") == 1
    assert "as 1 of 2 videos do; data.flow_stride=1 or 2 decides" in capsys.readouterr().err
    assert run("data.flow_stride=1", "data.on_bad_clip=skip", splits="train") == 0
    assert [clip.decode() for clip in shards(root).table.clip_id] == ["me_000_0", "b"]  # 1..20; 21..40 has no flow
    rgb, flow = shards(root).table.frame_index.T
    assert (flow == rgb).all()


def test_the_stride_that_extraction_left_of_itself_is_taken(root: Path, run: Pack) -> None:
    halve_flow(root, "me_000")
    (root / "frames/extract.json").write_text(json.dumps({"version": 1, "options": {"stride": 2}}))
    assert run(splits="train") == 0
    rgb, flow = shards(root).table.frame_index.T
    assert (flow == (rgb - 1) // 2 + 1).all()


def test_splits_that_share_a_video_are_noted(root: Path, run: Pack, capsys: Capture) -> None:
    (root / "val.csv").write_text(",".join(HEADER) + "\nother,me,me_000,1,20,0\n")
    assert run() == 0
    assert "note: train and val share 1 videos (me_000)" in capsys.readouterr().out


def test_a_wrong_root_is_said_once_and_first(root: Path, run: Pack, capsys: Capture) -> None:
    assert run(f"data.frames={root}/none", "data.on_bad_clip=skip") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: data.frames: {root}/none: no such folder; {root} holds frames, shards, train.csv")
    assert error.count("no such folder") == 1
    assert "on_bad_clip" not in error


def test_frames_with_an_exif_orientation_are_noted(root: Path, run: Pack, capsys: Capture) -> None:
    frame = root / "frames/me/rgb_frames/me_000/frame_0000000001.jpg"
    data = frame.read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    frame.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert run(splits="train") == 0
    assert "note: me_000: its frames say by EXIF that a viewer turns them (orientation 6)" in capsys.readouterr().out


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the annotations of EPIC-KITCHENS-100")
@pytest.mark.slow
def test_the_plan_of_all_of_epic_counts_clips_and_classes_without_frames(tmp_path: Path, capsys: Capture) -> None:
    files = {"train": "EPIC_100_train", "val": "EPIC_100_validation", "test": "EPIC_100_test_timestamps"}
    annotations = ", ".join(f"{split}: [{REAL.resolve()}/{file}.csv]" for split, file in files.items())
    given = ["data.preset=epic-100", f"data.annotations={{{annotations}}}", f"data.frames={tmp_path}/none"]
    assert load_config("configs/xnorm.yaml", given).data.preset == "epic-100"
    assert pack.main(["-c", "configs/xnorm.yaml", *given, "--plan", "data.workers=2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.replace("│", " ").splitlines()]
    counts = {line[0]: line[1] for line in lines if len(line) > 2 and line[0] in files}
    assert counts == {"train": "67,217", "val": "9,668", "test": "13,092"}
    assert ["Classes", "of", "verb:", "97", "of", "97"] in lines
    assert ["Classes", "of", "noun:", "293", "of", "300"] in lines
    assert ["0", "take", "14,848", "1,937", "0"] in lines
    assert ["-1", "unknown", "0", "0", "13,092"] in lines
