"""Each clip is scored once, or it is said."""

from typing import cast

import pytest
import torch

from configs import UserError
from engine.loaders import open_loader
from engine.runtime.session import RunContext
from engine.scoring.evaluation import compute_metrics, evaluate
from engine.scoring.reports import write_reports
from models import build_model
from pipeline.loader import ClipLoader
from pipeline.views import MultiView
from tests.engine.conftest import FakeLoader, TinyModel
from tests.runs import MakeConfig


def score(session: RunContext, order: list[int] | None = None, model: TinyModel | None = None):
    loader = FakeLoader()
    loader.order = order or loader.order
    return evaluate(model or TinyModel(), cast(ClipLoader, loader), session, "val")


def test_scores_stand_at_their_clips_whatever_the_order(session: RunContext):
    torch.manual_seed(0)
    model = TinyModel()
    forwards, pairs_swapped = score(session, model=model), score(session, [1, 0, 3, 2, 5, 4, 7, 6], model)
    assert forwards.logits.shape == (8, 6)
    assert torch.equal(forwards.logits[[1, 0]], pairs_swapped.logits[[0, 1]])  # the same pixels for another clip


def test_a_clip_scored_twice_and_one_left_out_are_named(session: RunContext):
    with pytest.raises(UserError, match=r"exactly once, but 2 of 8 were not: clip2 \(2 times\), clip3 \(0 times\)"):
        score(session, [0, 1, 2, 2, 4, 5, 6, 7])


def test_a_view_that_is_missing_is_named_with_its_clip(session: RunContext):
    loader = FakeLoader(num_clips=4)
    loader.multi_view = MultiView(num_temporal=2)  # of which it shows the first alone
    with pytest.raises(UserError, match=r"exactly once in each of its views, but 4 of 4 .*: clip0 \(1, 0 times\), "):
        evaluate(TinyModel(), cast(ClipLoader, loader), session, "val")


def test_the_logits_of_the_views_of_a_clip_are_averaged(config: MakeConfig, session: RunContext):
    settings, multi_view, model = config(), MultiView(num_temporal=2, num_spatial=3), TinyModel()
    with open_loader(settings, "val", model, session, multi_view=multi_view) as loader:
        evaluation = evaluate(model, loader, session, "val")
        expected = torch.zeros(6, 6)
        for batch in loader:
            for rgb, clip in zip(batch.rgb, batch.clips.tolist(), strict=True):
                expected[clip] += model(rgb[None], None).logits[0].detach() / 6
    torch.testing.assert_close(evaluation.logits, expected)
    with open_loader(settings, "val", model, session) as loader:
        once = evaluate(model, loader, session, "val")
    assert (evaluation.logits - once.logits).abs().max() > 1e-3


def test_scores_that_are_not_finite_are_refused(session: RunContext):
    model = TinyModel()
    torch.nn.init.constant_(model.linear.weight, float("nan"))
    with pytest.raises(UserError, match=r"the scores of 8 of 8 clips are not finite: clip0, "):
        score(session, model=model)


def test_every_clip_of_a_packed_split_is_scored_with_a_short_last_batch(config: MakeConfig, session: RunContext):
    settings = config("model.fusion=rgb")
    model = build_model(**settings.model.model_dump())
    with open_loader(settings, "val", model, session) as loader:
        evaluation = evaluate(model, loader, session, "val")  # six clips, four a batch
        one_by_one = open_loader(config("model.fusion=rgb", "loader.batch_size=1"), "val", model, session)
        again = evaluate(model, one_by_one, session, "val")
    assert evaluation.labels.tolist() == [0, 1, 2, 0, 1, 2]
    torch.testing.assert_close(evaluation.logits, again.logits)


def test_a_label_without_a_class_is_refused_by_clip(config: MakeConfig, session: RunContext):
    settings = config("model.fusion=rgb", "model.num_classes=2")
    model = build_model(**settings.model.model_dump())
    with pytest.raises(UserError, match=r"clip P02_01_2 has label 2, but model.num_classes is 2; labels run from 0"):
        open_loader(settings, "val", model, session)


def test_predictions_are_probabilities_one_line_a_clip(session: RunContext, tmp_path):
    evaluation = score(session)
    write_reports(evaluation, tmp_path)
    header, *lines = (line.split(",") for line in (tmp_path / "predictions.csv").read_text().splitlines())
    assert header == ["clip_id", "label", "prediction", *(f"score_{label}" for label in range(6))]
    assert [line[0] for line in lines] == evaluation.clip_ids
    for line, logits in zip(lines, evaluation.logits, strict=True):
        scores = [float(score) for score in line[3:]]
        assert sum(scores) == pytest.approx(1)
        assert int(line[2]) == scores.index(max(scores)) == int(logits.argmax())


def test_a_folder_that_cannot_be_written_to_is_said(session: RunContext, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match=r"out: cannot be written: File exists"):
        write_reports(score(session), tmp_path / "out")


# Seven classes; class 0 has three clips, 1 has one, 2 has one, the others none.
LABELS = torch.tensor([0, 0, 0, 1, 2])
LOGITS = torch.tensor(
    [
        [9.0, 1, 2, 3, 4, 5, 6],  # right
        [9.0, 1, 2, 3, 4, 5, 6],  # right
        [4.0, 9, 8, 7, 6, 5, 0],  # 1; the label is sixth
        [5.0, 4, 3, 2, 1, 9, 0],  # 5; the label is third
        [1.0, 2, 9, 3, 4, 5, 6],  # right
    ]
)


def test_metrics_of_five_clips_worked_out_by_hand():
    metrics = compute_metrics(LOGITS, LABELS)
    assert metrics.top1 == pytest.approx(3 / 5)
    assert metrics.top5 == pytest.approx(4 / 5)
    assert metrics.per_class == [pytest.approx(2 / 3), 0, 1, None, None, None, None]
    assert metrics.mean_class == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_confusion_counts_labels_in_rows_and_predictions_in_columns():
    confusion = compute_metrics(LOGITS, LABELS).confusion
    assert confusion.nonzero().tolist() == [[0, 0], [0, 1], [1, 5], [2, 2]]
    assert confusion[0, 0] == 2
    assert confusion.sum() == 5


def test_top5_says_nothing_of_five_classes_or_fewer():
    assert compute_metrics(LOGITS[:, :5], torch.tensor([0, 0, 0, 1, 2])).top5 is None
