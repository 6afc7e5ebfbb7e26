"""Ensembles of separately trained networks: one set of scores out of several."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it

from engine.scoring.evaluation import Evaluation, compute_metrics
from engine.scoring.predictions import Predictions, match
from pipeline.format.streams import UNKNOWN

LEVELS = ("softmax", "logits")
LEAST = float(np.finfo(np.float64).tiny)  # the probability that stands for 0, which has no logarithm


def fuse(
    predictions: Sequence[Predictions], weights: Sequence[float] | None = None, level: str = LEVELS[0]
) -> Predictions:
    """Average the scores of each clip, weighted, over several networks.

    softmax: p = sum_i w_i p_i, as Simonyan and Zisserman average two streams (Two-Stream Convolutional Networks, NIPS
    2014, section 2). logits: p is the softmax of sum_i w_i l_i, as late fusion has it and as Wang et al. weight flow
    1.5 to 1 (Temporal Segment Networks, ECCV 2016, section 3.3); l_i = log p_i serves, for a softmax does not change
    where all logits of a clip are moved alike. The weights are divided by their sum.

    Raises:
        UserError: they are of other clips, labels or classes.
    """
    matched = match(predictions)
    shares = np.array(weights if weights is not None else [1.0] * len(matched))
    scores = np.stack([each.scores for each in matched])  # [runs, N, C]
    if level == "logits":
        scores = np.log(np.maximum(scores, LEAST))
    mean = np.tensordot(shares / shares.sum(), scores, axes=1)
    if level == "logits":
        mean = np.exp(mean - mean.max(axis=1, keepdims=True))
        mean /= mean.sum(axis=1, keepdims=True)
    first = matched[0]
    return Predictions(first.folder, first.clip_ids, first.labels, mean, first.classes)


def evaluate_scores(predictions: Predictions) -> Evaluation:
    """Measure scores as eval.py measures a model's; the loss is the cross-entropy, in nats per clip."""
    labels = torch.from_numpy(predictions.labels)
    logits = torch.from_numpy(predictions.scores).clamp_min(LEAST).log()
    loss = float(F.cross_entropy(logits, labels)) if bool((labels != UNKNOWN).all()) else None
    metrics = compute_metrics(logits, labels)
    return Evaluation(predictions.clip_ids, labels, logits, loss, None, None, metrics, predictions.classes)
