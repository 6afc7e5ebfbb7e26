"""Scores every clip of a split exactly once, over all ranks, and checks that it did."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.errors import UserError
from engine.metrics import Metrics, compute_metrics
from engine.session import Session
from models.fusion import FusionModel
from pipeline.loader import ClipLoader

MAX_LISTED = 10  # clips in a message


@dataclass(frozen=True)
class Evaluation:
    """The scores of a split, in the order of `clip_ids`, and what they amount to."""

    clip_ids: Sequence[str]
    labels: Tensor  # int64 [N]
    logits: Tensor  # float32 [N, C]
    loss: float  # mean over clips of the sum of the model's terms
    clips_per_s: float
    metrics: Metrics


@torch.inference_mode()
def evaluate(
    model: FusionModel, loader: ClipLoader, num_classes: int, session: Session, description: str
) -> Evaluation:
    """Score `loader`'s clips by `model`, in eval mode, with a bar of this `description`.

    Raises:
        UserError: a clip was scored twice or not at all, or its scores are not finite.
        InterruptionError: a signal came.
    """
    device, world = session.placement.device, session.world
    model.eval()
    session.display.begin(description, len(loader))
    started = time.perf_counter()
    num_clips = len(loader.clip_ids)
    logits = torch.zeros(num_clips, num_classes, device=device)
    times_scored = torch.zeros(num_clips, dtype=torch.int64, device=device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    for batch in loader:
        batch = batch.to(device)
        with session.placement.autocast():
            output = model(batch.rgb, batch.flow)
            losses = model.losses(output, batch.labels)
        logits[batch.clips] = output.logits.float()
        times_scored.index_add_(0, batch.clips, torch.ones_like(batch.clips))
        loss_sum += torch.stack(list(losses.values())).sum().double() * len(batch.labels)
        session.display.advance()
        session.leave_if_asked()
    for tensor in (logits, times_scored, loss_sum):  # a clip's row is zero on all ranks but one
        world.sum(tensor)
    logits = logits.cpu()
    _check_scored_once(loader.clip_ids, times_scored.cpu())
    _check_finite(loader.clip_ids, logits)
    seconds = time.perf_counter() - started
    labels = torch.as_tensor(loader.labels)
    metrics = compute_metrics(logits, labels)
    return Evaluation(loader.clip_ids, labels, logits, float(loss_sum) / num_clips, num_clips / seconds, metrics)


def _check_scored_once(clip_ids: Sequence[str], times_scored: Tensor) -> None:
    wrong = (times_scored != 1).nonzero()[:, 0].tolist()
    if wrong:
        found = ", ".join(f"{clip_ids[clip]} ({int(times_scored[clip])} times)" for clip in wrong[:MAX_LISTED])
        raise UserError(
            f"evaluation: each clip must be scored exactly once, but {len(wrong)} of {len(clip_ids)} were not: {found}"
        )


def _check_finite(clip_ids: Sequence[str], logits: Tensor) -> None:
    wrong = (~logits.isfinite().all(dim=1)).nonzero()[:, 0].tolist()
    if wrong:
        found = ", ".join(clip_ids[clip] for clip in wrong[:MAX_LISTED])
        raise UserError(
            f"evaluation: the scores of {len(wrong)} of {len(clip_ids)} clips are not finite: {found}; "
            "the weights have diverged (lower train.lr) or need more range (train.precision=fp32)"
        )
