"""Faults of a stream: what becomes of the pixels, what is refused, and what is written and read back."""

import argparse
import math
from pathlib import Path

import pytest
import torch

from configs import ConfigError, UserError
from engine.scoring.corruption import Corruption, check_streams, parse_corruptions
from engine.scoring.evaluation import Evaluation, compute_metrics
from engine.scoring.robustness import read_robustness, robustness_table, score_faults, write_robustness
from models.fusion import to_unit_range
from pipeline.batch import Batch
from pipeline.views import SINGLE_VIEW


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    rgb, flow = (
        torch.randint(0, 256, (2, channels, 8, 4, 4), dtype=torch.uint8, generator=generator) for channels in (3, 2)
    )
    return Batch(rgb, flow, torch.tensor([0, 1]), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64), ())


@pytest.mark.parametrize(("stream", "other"), [("rgb", "flow"), ("flow", "rgb")])
@pytest.mark.parametrize("kind", ["missing", "delay"])
def test_a_fault_leaves_the_other_stream_alone(stream: str, other: str, kind: str):
    corrupt = Corruption(stream, kind, 1)(batch())
    assert getattr(corrupt, other).equal(getattr(batch(), other))
    assert not getattr(corrupt, stream).equal(getattr(batch(), stream))
    assert corrupt.labels.equal(batch().labels)


def test_what_is_missing_is_no_motion_and_mid_grey_for_the_model():
    for stream in ("rgb", "flow"):
        clip = getattr(Corruption(stream, "missing")(batch()), stream)
        assert to_unit_range(clip, stream).abs().max() == 0  # a level of 127.5, which no byte has


def test_a_delay_shows_earlier_frames_and_first_the_first():
    flow = batch().flow
    assert flow is not None
    late = Corruption("flow", "delay", 3)(batch()).flow
    assert late is not None
    assert [late[:, :, t].equal(flow[:, :, max(t - 3, 0)]) for t in range(8)] == [True] * 8
    frozen = Corruption("flow", "delay", 100)(batch()).flow
    assert frozen is not None
    assert frozen.equal(flow[:, :, :1].expand_as(flow))


def test_darkness_takes_a_share_of_each_level():
    clip = torch.tensor([0, 1, 100, 255], dtype=torch.uint8).view(1, 1, 1, 2, 2).expand(1, 3, 8, 2, 2)
    given = Batch(clip, None, torch.zeros(1), torch.zeros(1), torch.zeros(1), ())
    for share, levels in ((0.25, [0, 1, 75, 191]), (1.0, [0, 0, 0, 0])):
        dark = Corruption("rgb", "dark", share)(given).rgb
        assert dark is not None
        assert dark.dtype == torch.uint8
        assert dark[0, 0, 0].flatten().tolist() == levels


def test_several_severities_are_a_curve_in_order():
    assert parse_corruptions("flow:missing") == [Corruption("flow", "missing")]
    assert parse_corruptions("flow:delay=4,1,4") == [Corruption("flow", "delay", 1), Corruption("flow", "delay", 4)]
    assert [str(each) for each in parse_corruptions("rgb:dark=0.5,.9")] == ["rgb:dark=0.5", "rgb:dark=0.9"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth:missing", "streams rgb, flow, kinds missing, delay, dark"),
        ("flow", "allowed: STREAM:KIND=SEVERITY"),
        ("flow:delay", "allowed after flow:delay=: whole frames"),
        ("flow:delay=0.5", "1 and more"),
        ("flow:delay=inf", "1 and more"),
        ("rgb:dark=0", "above 0 to 1"),
        ("rgb:dark=nan", "above 0 to 1"),
        ("rgb:missing=0.5", "allowed after rgb:missing=: none"),
        ("flow:dark=0.5", "dark is for pictures, not for motion"),
    ],
)
def test_what_is_no_fault_is_refused(text: str, message: str):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        parse_corruptions(text)


def test_a_stream_that_the_model_does_not_read_is_refused():
    with pytest.raises(ConfigError, match="--corrupt flow:delay=2: found flow, allowed: rgb"):
        check_streams([Corruption("rgb", "dark", 0.5), Corruption("flow", "delay", 2)], ["rgb"])


def evaluation(num_right: int, labels: list[int] | None = None) -> Evaluation:
    """100 clips of two classes, of which so many are right."""
    known = torch.zeros(100, dtype=torch.int64) if labels is None else torch.tensor(labels)
    logits = torch.tensor([[1.0, 0.0]] * num_right + [[0.0, 1.0]] * (100 - num_right))
    metrics = compute_metrics(logits, known)
    ids = [str(number) for number in range(100)]
    return Evaluation(ids, known, logits, 1.0, 1.0, SINGLE_VIEW, metrics)


def test_a_curve_is_written_and_read_back(tmp_path: Path):
    faults = [("missing", 1, 40), ("delay", 1, 80), ("delay", 4, 50)]
    scored = [(Corruption("flow", kind, severity), evaluation(right)) for kind, severity, right in faults]
    robustness = score_faults(Path("best.pt"), "test", evaluation(90), scored)
    write_robustness(robustness, tmp_path)
    assert read_robustness(tmp_path) == robustness
    assert [(score.name, score.top1) for score in robustness.scores] == [
        ("as it is", 0.9),
        ("flow:missing", 0.4),
        ("flow:delay=1", 0.8),
        ("flow:delay=4", 0.5),
    ]
    assert robustness.faults == {"flow:missing": 0.4, "flow:delay=1": 0.8, "flow:delay=4": 0.5}
    half = 1.96 * math.sqrt(0.5 * 0.5 / 100)
    last = robustness.scores[-1]
    assert (last.low, last.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.011)
    assert (tmp_path / "corruption.png").read_bytes().startswith(b"\x89PNG")
    assert list(robustness_table(robustness, "x").columns[4].cells) == ["", "-50.0", "-10.0", "-40.0"]


def test_without_labels_there_is_no_curve_and_damage_is_one_message(tmp_path: Path):
    unknown = evaluation(50, [-1] * 100)
    with pytest.raises(UserError, match="no clip of this split has a label"):
        score_faults(Path("best.pt"), "test", unknown, [])
    assert read_robustness(tmp_path) is None
    (tmp_path / "corruption.json").write_text("{")
    with pytest.raises(UserError, match=r"corruption.json: damaged"):
        read_robustness(tmp_path)
