"""What a run says of a video is what packing and evaluating the same segments says."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import eval as evaluating
from configs import ConfigError, UserError
from engine.runs.checkpoint import load_checkpoint, save_checkpoint
from models import build_model
from preprocess import pack
from tests.movies import moving, write_movie
from tests.own import Own
from xnorm import Predictions, load_run

TOLERANCE = 1e-4
Edit = Callable[[dict], None]


def evaluated(own: Own, checkpoint: Path, folder: Path, *overrides: str) -> dict[str, list[float]]:
    """Scores of the train split's clips by eval.py."""
    config = ["-c", str(own.run / "config.yaml"), *overrides]
    arguments = [*config, "--checkpoint", str(checkpoint), "--split", "train", "-o", str(folder), "--quiet"]
    assert evaluating.main(arguments) == 0
    with open(folder / "predictions.csv") as file:
        return {row["clip_id"]: [float(row["score_0"]), float(row["score_1"])] for row in csv.DictReader(file)}


def edited(own: Own, path: Path, edit: Edit) -> Path:
    """The run's checkpoint with something changed."""
    state = load_checkpoint(own.run / "best.pt")
    edit(state)
    save_checkpoint(path, state)
    return path


def assert_equal(predictions: Predictions, scores: list[list[float]]) -> None:
    found, expected = predictions.probabilities, torch.tensor(scores, dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    assert found.argmax(dim=1).tolist() == expected.argmax(dim=1).tolist()


def test_a_video_gets_the_scores_that_packing_and_evaluation_give(own: Own, tmp_path: Path) -> None:
    scores = evaluated(own, own.run / "best.pt", tmp_path)
    predictions = load_run(own.run, num_threads=2).predict(own.video, segments=own.table)
    assert_equal(predictions, [scores[f"1_{number}"] for number in range(3)])
    assert np.ptp(predictions.probabilities[:, 0].numpy()) > 10 * TOLERANCE  # or the clips would not be told apart
    assert predictions.classes == ["pour", "stir"]


def test_frames_stored_as_scaled_pixels_get_the_scores_of_these(own: Own, tmp_path: Path) -> None:
    raw = ["data.codec=raw", "data.raw_short_side=36", f"data.shards={tmp_path / 'raw'}"]
    assert pack.main(["-c", str(own.run / "config.yaml"), *raw, "--quiet"]) == 0
    scores = evaluated(own, own.run / "best.pt", tmp_path / "scores", *raw)
    path = edited(
        own, tmp_path / "raw.pt", lambda state: state["config"]["data"].update(codec="raw", raw_short_side=36)
    )
    predictions = load_run(path).predict(own.video, segments=own.table)
    assert_equal(predictions, [scores[f"1_{number}"] for number in range(3)])


def test_a_packed_split_gets_the_scores_of_evaluation(own: Own, tmp_path: Path) -> None:
    scores = evaluated(own, own.run / "best.pt", tmp_path)
    predictions = load_run(own.run).predict(own.folder / "own/shards/train")
    assert [each.span.clip for each in predictions] == list(scores)
    assert_equal(predictions, list(scores.values()))


def test_windows_are_segments_of_the_same_seconds(own: Own, tmp_path: Path) -> None:
    run = load_run(own.run)
    table = tmp_path / "windows.csv"
    table.write_text("file,start,stop\n1.mp4,0,0.8\n1.mp4,0.4,1.2\n1.mp4,0.8,1.6\n")
    windows = run.predict(own.video, window=0.8)
    assert [(one.span.start, one.span.start_frame, one.span.stop_frame) for one in windows] == [
        (0.0, 1, 20),
        (pytest.approx(0.4), 11, 30),
        (pytest.approx(0.8), 21, 40),
    ]
    assert torch.equal(windows.logits, run.predict(own.video, segments=table).logits)


def test_one_video_is_one_clip_and_a_folder_of_its_frames_is_alike(own: Own, tmp_path: Path) -> None:
    run = load_run(own.run)
    for number, pixels in enumerate(moving([(1, 0)] * 39, 64, 80), 1):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"frames/{number:04d}.png")
    write_movie(tmp_path / "a.avi", moving([(1, 0)] * 39, 64, 80), codec="ffv1")
    (one,), (other,) = run.predict(tmp_path / "a.avi"), run.predict(tmp_path / "frames")
    assert (one.span.start_frame, one.span.stop_frame, other.span.stop_frame) == (1, 40, 40)
    torch.testing.assert_close(one.logits, other.logits, atol=0.15, rtol=0)  # the video is stored as YUV
    with pytest.raises(UserError, match="has no seconds to cut windows by"):
        run.predict(tmp_path / "frames", window=1.0)
    assert len(run.predict(tmp_path / "frames", window=1.0, fps=25)) == 3


def test_features_are_those_of_each_stream_by_clip_and_time(own: Own) -> None:
    run = load_run(own.run)
    features = run.features(own.video, segments=own.table)
    channels = run.model.rgb_enc.out_channels
    assert {stream: tuple(one.shape) for stream, one in features.items()} == {
        "rgb": (3, 1, channels),
        "flow": (3, 1, channels),
    }
    again = load_run(own.run).features(own.video, window=0.8, hop=10)
    torch.testing.assert_close(again["flow"][0], features["flow"][0])
    assert not torch.allclose(features["rgb"][0], features["flow"][0])
    assert not run.model._forward_hooks


@pytest.mark.parametrize("options", [{"fusion": "rgb", "hidden_size": 8}, {"fusion": "mult", "attention_size": 10}])
def test_features_of_one_stream_and_of_trunks_without_an_embedding(own: Own, tmp_path: Path, options: dict) -> None:
    options = {**options, "num_classes": 2, "width": 0.05}
    model = build_model(**options)

    def edit(state: dict) -> None:
        state["model"], state["config"]["model"] = model.state_dict(), options

    features = load_run(edited(own, tmp_path / "other.pt", edit)).features(own.video, window=0.8)
    shape = (3, 1, model.rgb_enc.out_channels)
    assert {stream: tuple(one.shape) for stream, one in features.items()} == dict.fromkeys(model.streams, shape)


def test_a_run_on_rgb_computes_no_flow(own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"fusion": "rgb", "hidden_size": 8, "num_classes": 2, "width": 0.05}

    def edit(state: dict) -> None:
        state["model"], state["config"]["model"] = build_model(**options).state_dict(), options

    run = load_run(edited(own, tmp_path / "rgb.pt", edit))
    expected = run.predict(own.folder / "own/shards/train").logits[3:]
    monkeypatch.setattr("preprocess.videos.encoding.flow_method", None)
    torch.testing.assert_close(run.predict(own.video, segments=own.table).logits, expected, atol=1e-4, rtol=0)


def test_no_names_are_invented(own: Own, tmp_path: Path) -> None:
    path = edited(own, tmp_path / "nameless.pt", lambda state: state["data"].update(classes={"label": None}))
    predictions = load_run(path).predict(own.video)
    assert predictions.classes is None
    assert {score.name for score in predictions.top()} == {"0", "1"}


def test_top_is_the_mean_of_all_clips(own: Own) -> None:
    predictions = load_run(own.run).predict(own.video, segments=own.table)
    mean = predictions.probabilities.mean(dim=0)
    best = predictions.top(1)[0]
    assert best == (int(mean.argmax()), predictions.classes[int(mean.argmax())], pytest.approx(float(mean.max())))
    assert sum(score.probability for score in predictions[2].top(5)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda state: state["data"].update(source=None), "its frames were not made by extract.py.*--flow-options"),
        (lambda state: state.pop("data"), "its frames were not made by extract.py"),
        (lambda state: state["data"].update(source={"options": 1}), "how its data were made is damaged"),
        (lambda state: state["config"].pop("clip"), "its config: clip: Field required"),
        (lambda state: state["config"]["data"].update(frames_per_clip=[1]), "its config: data.frames_per_clip"),
        (lambda state: state["config"]["model"].update(fusion={}), "its config: model.fusion"),
        (lambda state: state["data"]["source"]["options"].update(stride=0), "how its data were made is damaged"),
    ],
)
def test_a_run_that_lacks_what_is_needed_is_refused(own: Own, tmp_path: Path, edit: Edit, match: str) -> None:
    with pytest.raises(UserError, match=match):
        load_run(edited(own, tmp_path / "other.pt", edit)).predict(own.video)


def test_flow_options_take_the_place_of_what_a_run_knows(own: Own, tmp_path: Path) -> None:
    path = edited(own, tmp_path / "other.pt", lambda state: state["data"].update(source=None))
    expected = load_run(own.run).predict(own.video).logits
    marker = own.folder / "own/frames/extract.json"
    (tmp_path / "options.json").write_text(json.dumps(json.loads(marker.read_text())["options"]))
    for options in (marker, tmp_path / "options.json"):
        assert torch.equal(load_run(path, flow_options=options).predict(own.video).logits, expected)
    damaged = edited(own, tmp_path / "other.pt", lambda state: state["data"].update(source=[]))
    assert torch.equal(load_run(damaged, flow_options=marker).predict(own.video).logits, expected)
    (tmp_path / "options.json").write_text('{"bound": "wide"}')
    with pytest.raises(ConfigError, match="neither an extract"):
        load_run(path, flow_options=tmp_path / "options.json")


def test_what_cannot_be_predicted_is_one_message(own: Own, tmp_path: Path) -> None:
    run = load_run(own.run)
    (tmp_path / "broken.mp4").write_bytes(own.video.read_bytes()[:-400])
    (tmp_path / "other.csv").write_text("file,start,stop\n0.mp4,0,1\n")
    (tmp_path / "frames.csv").write_text("file,start_frame,stop_frame\n1.mp4,1,99\n")
    for arguments, match in [
        ((tmp_path / "none.mp4",), "no such video"),
        ((tmp_path / "broken.mp4",), "broken.mp4: "),
        ((own.folder / "own",), "no images"),
    ]:
        with pytest.raises(UserError, match=match):
            run.predict(*arguments)
    for cut, match in [
        ({"segments": tmp_path / "other.csv"}, "no row is of .*1.mp4; its files are 0.mp4"),
        ({"segments": tmp_path / "frames.csv"}, "frames.csv:2: 1.mp4: stop_frame: found 99"),
        ({"segments": tmp_path / "frames.csv", "fps": 5}, "counts frames"),
        ({"window": 1.0, "segments": own.table}, "found both"),
        ({"window": -1.0}, "window: found -1.0"),
        ({"fps": 0}, "fps: found 0; allowed: above 0"),
        ({"hop": 1.0}, "no effect without a window"),
    ]:
        with pytest.raises(UserError, match=match):
            run.predict(own.video, **cut)
    with pytest.raises(ConfigError, match="a packed split is cut into clips already"):
        run.predict(own.folder / "own/shards/val", window=1.0)
    diverged = edited(own, tmp_path / "nan.pt", lambda state: state["model"]["rgb_out.fc3.bias"].fill_(torch.nan))
    with pytest.raises(UserError, match="the scores are not finite"):
        load_run(diverged).predict(own.video)
    with pytest.raises(UserError, match=r"no such checkpoint; allowed: a folder that has best\.pt"):
        load_run(tmp_path)
