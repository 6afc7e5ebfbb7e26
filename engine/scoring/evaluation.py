"""Evaluation of a split: every view of every clip scored exactly once over all ranks, and the metrics."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor

from common.errors import UserError, listed
from engine.runs.provenance import class_names
from engine.runtime.session import RunContext
from engine.scoring.actions import Actions, find_actions
from engine.scoring.subsets import Subsets
from engine.targets import names_in
from models.fusion import FusionModel
from models.targets import ACTION, NOUN, VERB
from pipeline.batch import Batch
from pipeline.format.streams import UNKNOWN
from pipeline.loader import ClipLoader
from pipeline.views import MultiView

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
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    num_classes = logits.shape[1]
    confusion = multiclass_confusion_matrix(logits.argmax(dim=1), labels, num_classes)
    clips, correct = confusion.sum(dim=1).tolist(), confusion.diagonal().tolist()
    per_class = [right / number if number else None for right, number in zip(correct, clips, strict=True)]
    top5 = None
    if num_classes > TOP_K:
        hits = logits.topk(TOP_K, dim=1).indices == labels[:, None]
        top5 = int(hits.sum()) / len(labels)
    mean_class = fmean(share for share in per_class if share is not None)
    return Metrics(sum(correct) / len(labels), top5, mean_class, per_class, confusion)


@dataclass(frozen=True)
class Evaluation:
    """The scores of a split, in the order of `clip_ids`, and what they amount to.

    Where several targets are scored, labels, logits, metrics and classes are those of the first.
    """

    clip_ids: Sequence[str]
    labels: Tensor  # int64 [N], -1 where unknown
    logits: Tensor  # float32 [N, C], mean over the views per clip
    loss: float | None  # mean over all views of the sum of the model's terms; None where a clip has no label
    clips_per_s: float | None  # None where several scorings are fused
    multi_view: MultiView | None  # likewise
    metrics: Metrics | None  # of the clips that have a label; None where none has
    classes: Sequence[str] | None = None  # their names, where the data have them [C]
    targets: Mapping[str, "Evaluation"] = field(default_factory=dict)  # of each target, where there are several
    actions: Actions | None = None  # where verbs and nouns are predicted
    masks: Mapping[str, Tensor] = field(default_factory=dict)  # bool [N]: which clips count for unseen_verb and so on

    @property
    def main(self) -> Metrics | Actions | None:
        """What top-1 without further words is of: actions where there are any, else the first target."""
        return self.actions or self.metrics

    @property
    def known(self) -> Tensor:
        """Which clips have a label (an action's: a verb and a noun), bool [N]."""
        return self.labels != UNKNOWN if self.actions is None else self.actions.known

    @property
    def hits(self) -> Tensor:
        """Of which clips the likeliest class, or action, is the label, bool [N]."""
        return self.logits.argmax(dim=1) == self.labels if self.actions is None else self.actions.hits[:, 0]


@torch.inference_mode()
def evaluate(
    model: FusionModel,
    loader: ClipLoader,
    session: RunContext,
    description: str,
    subsets: Subsets | None = None,
    corrupt: Callable[[Batch], Batch] | None = None,
) -> Evaluation:
    """Score `loader`'s clips with `model` in eval mode; `description` titles the progress bar.

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
    logits = torch.zeros(num_clips, per_clip, sum(model.targets.classes.values()), device=device)
    times_scored = torch.zeros(num_clips, per_clip, dtype=torch.int64, device=device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    names = names_in(loader, model.targets)
    has_loss = all(bool((loader.targets[name] != UNKNOWN).all()) for name in names)
    num_scored = 0.0
    for batch in loader:
        batch = batch.to(device)
        batch = batch if corrupt is None else corrupt(batch)
        with session.placement.autocast():
            output = model(batch.rgb, batch.flow)
            labels = model.targets.labels(batch.labels, batch.targets)
            losses = model.losses(output, labels) if has_loss else {}
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
    scores = {names[0] if name is None else name: part for name, part in model.targets.scores(logits).items()}
    pairs = model.targets.actions  # where there are any, actions have too many classes for tables of them
    found = {name: _of_target(loader, name, part) for name, part in scores.items() if pairs is None or name != ACTION}
    first = next(iter(found.values()))
    whole = replace(first, loss=loss, clips_per_s=rate, multi_view=loader.multi_view)
    if len(found) == 1:
        return whole
    if not {VERB, NOUN} <= found.keys():
        return replace(whole, targets=found)
    labels_of = {name: found[name].labels for name in (VERB, NOUN)}
    masks = {}
    if subsets is not None:
        participants = [participant.decode() for participant in loader.table.participant_id.tolist()]
        masks = subsets.masks(participants, labels_of)
    return replace(whole, targets=found, actions=find_actions(scores, labels_of, pairs), masks=masks)


def _of_target(loader: ClipLoader, target: str, logits: Tensor) -> Evaluation:
    """Measure one target's logits [N, C]."""
    labels, names = torch.as_tensor(loader.targets[target]), loader.classes[target]
    # Marginals end at the last class that an action has; the labels of a test split may go beyond.
    logits = F.pad(logits, (0, max(0, int(labels.max()) + 1 - logits.shape[1])), value=-torch.inf)
    classes = class_names(names, logits.shape[1]) if names else None
    metrics = compute_metrics(logits, labels)
    return Evaluation(loader.clip_ids, labels, logits, None, None, None, metrics, classes)


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
