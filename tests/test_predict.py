"""The command predict.py: what it prints, writes and renders, and how it ends."""

import csv
import json
from pathlib import Path

import av
import numpy as np
import pytest

import predict
from tests.own import Own
from xnorm import load_run


def call(own: Own, *arguments: object) -> int:
    return predict.main([str(own.run), *map(str, arguments), "--device", "cpu", "--threads", "1"])


def test_windows_are_printed_by_name_and_written_as_csv_and_json(
    own: Own,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(own, own.video, "--window", "0.8", "-o", tmp_path) == 0
    printed = capsys.readouterr().out
    expected = load_run(own.run).predict(own.video, window=0.8)
    with open(tmp_path / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert [(row["video"], row["start_frame"], row["stop_frame"]) for row in rows] == [
        (str(own.video), str(first), str(first + 19)) for first in (1, 11, 21)
    ]
    for row, clip, each in zip(rows, content["clips"], expected, strict=True):
        best = each.top(1)[0]
        assert (row["prediction"], row["prediction_name"]) == (str(best.label), best.name)
        assert [float(row["score_0"]), float(row["score_1"])] == pytest.approx(each.probabilities.tolist(), abs=1e-6)
        assert clip["top"][0]["name"] == best.name
        assert sum(score["probability"] for score in clip["top"]) == pytest.approx(1)
        assert f"{best.probability:.1%}" in printed
    assert content["classes"] == ["pour", "stir"]
    assert content["made"]["bound"] == 8.0
    assert "pour" in printed


def test_a_bad_video_is_named_after_the_others_are_done(
    own: Own,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    assert call(own, tmp_path / "bad.mp4", own.video, "-o", tmp_path / "out", "--quiet") == 1
    assert f"error: {tmp_path}/bad.mp4: cannot be read as a video" in capsys.readouterr().err
    clips = json.loads((tmp_path / "out/predictions.json").read_text())["clips"]
    assert [clip["video"] for clip in clips] == [str(own.video)]


def test_a_packed_split_is_predicted_by_its_ids(own: Own, tmp_path: Path) -> None:
    assert call(own, own.folder / "own/shards/val", "-o", tmp_path, "--quiet") == 0
    with open(tmp_path / "predictions.csv") as file:
        assert [(row["clip"], row["start"]) for row in csv.DictReader(file)] == [("2_0", ""), ("2_1", ""), ("2_2", "")]


def test_a_rendered_video_has_its_frames_beside_flow_and_captions(own: Own, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    assert call(own, own.video, "--window", "0.8", "--render", path, "-o", tmp_path, "--quiet") == 0
    with av.open(str(own.video)) as container:
        originals = [frame.time for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        pixels = [frame.to_ndarray(format="rgb24") for frame in frames]
    assert [frame.time for frame in frames] == pytest.approx(originals, abs=1e-3)
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".")]
    height, width = pixels[0].shape[:2]
    assert (height % 2, width % 2) == (0, 0)
    assert width == 2 * 5 * 48  # frames of 48 x 60 (64 x 80, turned), enlarged until they are 240 wide
    assert height == 5 * 60 + 88
    strips = [image[-88:] for image in pixels]
    another, same = (np.abs(strips[5].astype(int) - strips[number]).mean() for number in (35, 0))
    assert another > 3 * same  # the caption of another window; the same within one, but for the encoder's noise


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--render", "out.avi"], "allowed endings: .mp4, .mkv"),
        (["--render", "nowhere/out.mp4"], "the folder nowhere does not exist"),
        (["other.mp4", "--render", "out.mp4"], "--render: takes one video"),
        (["--hop", "1"], "hop: has no effect without a window"),
    ],
)
def test_a_wrong_command_line_is_one_message(
    own: Own,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(own, own.video, *arguments) == 2
    assert message in capsys.readouterr().err
