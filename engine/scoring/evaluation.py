"""Evaluation of a split: every view of every clip scored exactly once over all ranks, and the metrics."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from common.errors import UserError, listed
from engine.runtime.session import RunContext
from models.fusion import FusionModel
from pipeline.batch import Batch
from pipeline.format.streams import UNKNOWN
from pipeline.loader import ClipLoader
from pipeline.sampler import MultiView

TOP_K = 5
MAX_LISTED = 10  # clips in a message


@dataclass(frozen=True)
class Metrics:
    """Accuracies as fractions; `confusion` [C, C] counts clips by label (row) and prediction (column)."""

    top1: float
    top5: float | None  # None where there are no more than five classes: it would always be 1
    mean_class: float  # over the classes that have clips
    per_class: list[float | None]  # None for a class without clips
    confusion: Tensor


def compute_metrics(logits: Tensor, labels: Tensor) -> Metrics | None:
    """Measure logits [N, C] against labels [N], of the clips that have one; None where none has."""
    known = labels != UNKNOWN
    logits, labels = logits[known], labels[known]
    if not len(labels):
        return None
    # Here, because it takes seconds to import and --help and a wrong config should not wait for it.
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

    num_classes = logits.shape[1]
    confusion = multiclass_confusion_matrix(logits.argmax(dim=1), labels, num_classes)
    clips, correct = confusion.sum(dim=1).tolist(), confusion.diagonal().tolist()
    per_class = [right / number if number else None for right, number in zip(correct, clips, strict=True)]
    top5 = None
    if num_classes > TOP_K:
        top5 = float(multiclass_accuracy(logits, labels, num_classes, average="micro", top_k=TOP_K))
    mean_class = fmean(share for share in per_class if share is not None)
    return Metrics(sum(correct) / len(labels), top5, mean_class, per_class, confusion)


@dataclass(frozen=True)
class Evaluation:
    """The scores of a split, in the order of `clip_ids`, and what they amount to."""

    clip_ids: Sequence[str]
    labels: Tensor  # int64 [N], -1 where unknown
    logits: Tensor  # float32 [N, C], mean over the views per clip
    loss: float | None  # mean over all views of the sum of the model's terms; None where a clip has no label
    clips_per_s: float | None  # None where several scorings are fused
    multi_view: MultiView | None  # likewise
    metrics: Metrics | None  # of the clips that have a label; None where none has
    classes: Sequence[str] | None = None  # their names, where the data have them [C]


@torch.inference_mode()
def evaluate(
    model: FusionModel,
    loader: ClipLoader,
    num_classes: int,
    session: RunContext,
    description: str,
    classes: Sequence[str] | None = None,
    corrupt: Callable[[Batch], Batch] | None = None,
) -> Evaluation:
    """Score `loader`'s clips with `model` in eval mode; `description` titles the progress bar, `classes` are names.

    `corrupt` makes what the model sees of each batch out of it.

    The logits of several views per clip are averaged. Each view has a row of its own until then, so the mean does not
    depend on how views were distributed over batches and ranks.

    Raises:
        UserError: a clip was scored twice or not at all, or its scores are not finite.
        InterruptionError: a signal came.
    """
    device, world = session.placement.device, session.world
    model.eval()
    session.display.begin(description, len(loader))
    started = time.perf_counter()
    num_clips, per_clip = len(loader.clip_ids), loader.multi_view.per_clip
    logits = torch.zeros(num_clips, per_clip, num_classes, device=device)
    times_scored = torch.zeros(num_clips, per_clip, dtype=torch.int64, device=device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    labels = torch.as_tensor(loader.labels)
    has_loss = bool((labels != UNKNOWN).all())
    num_scored = 0.0
    for batch in loader:
        batch = batch.to(device)
        batch = batch if corrupt is None else corrupt(batch)
        with session.placement.autocast():
            output = model(batch.rgb, batch.flow)
            losses = model.losses(output, batch.labels) if has_loss else {}
        logits[batch.clips, batch.view_ids] = output.logits.float()
        times_scored.index_put_((batch.clips, batch.view_ids), torch.ones_like(batch.clips), accumulate=True)
        if losses:
            loss_sum += torch.stack(list(losses.values())).sum().double() * len(batch.labels)
        num_scored += len(batch.labels) / per_clip * world.size
        session.display.advance()
        session.display.update(f"{num_scored / (time.perf_counter() - started):.1f} clips/s")
        session.raise_if_interrupted()
    for tensor in (logits, times_scored, loss_sum):  # the row of a view is zero on all ranks but one
        world.sum(tensor)
    _check_scored_once(loader.clip_ids, times_scored.cpu())
    logits = logits.cpu().double().mean(dim=1).float()  # [N, C]
    _check_finite(loader.clip_ids, logits)
    rate = num_clips / (time.perf_counter() - started)
    loss = float(loss_sum) / (num_clips * per_clip) if has_loss else None
    metrics = compute_metrics(logits, labels)
    return Evaluation(loader.clip_ids, labels, logits, loss, rate, loader.multi_view, metrics, classes)


def _check_scored_once(clip_ids: Sequence[str], times_scored: Tensor) -> None:
    """Refuse times_scored [N, views] that are not all 1."""
    wrong = (times_scored != 1).any(dim=1).nonzero()[:, 0].tolist()
    if wrong:
        found = [f"{clip_ids[clip]} ({', '.join(map(str, times_scored[clip].tolist()))} times)" for clip in wrong]
        once = "exactly once" if times_scored.shape[1] == 1 else "exactly once in each of its views"
        raise UserError(
            f"evaluation: each clip must be scored {once}, but {len(wrong)} of {len(clip_ids)} were not: "
            f"{listed(found, MAX_LISTED)}"
        )


def _check_finite(clip_ids: Sequence[str], logits: Tensor) -> None:
    wrong = (~logits.isfinite().all(dim=1)).nonzero()[:, 0].tolist()
    if wrong:
        raise UserError(
            f"evaluation: the scores of {len(wrong)} of {len(clip_ids)} clips are not finite: "
            f"{listed([clip_ids[clip] for clip in wrong], MAX_LISTED)}; "
            "the weights have diverged (lower train.lr) or need more range (train.precision=fp32)"
        )
