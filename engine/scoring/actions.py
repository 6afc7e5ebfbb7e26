"""Actions, pairs of a verb and a noun: the likeliest of each clip, and their accuracies by the challenge's rules."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.targets import ACTION, NOUN, VERB
from pipeline.format.streams import UNKNOWN

BEST = 5  # pairs that are kept of each clip


@dataclass(frozen=True)
class Actions:
    """The actions of N clips and what a model takes for the likeliest, as verb and noun.

    Attributes:
        labels: int64 [N, 2], -1 where unknown.
        best: int64 [N, K, 2], K <= 5, the likeliest pair first.
    """

    labels: Tensor
    best: Tensor

    @property
    def known(self) -> Tensor:
        """Which clips have a verb and a noun, [N]."""
        return (self.labels != UNKNOWN).all(dim=1)

    @property
    def hits(self) -> Tensor:
        """Where the k-th likeliest pair is the label, [N, K]."""
        return (self.best == self.labels[:, None]).all(dim=2)

    @property
    def top1(self) -> float | None:
        """The share of the clips whose likeliest pair is right; None where none is known."""
        return float(self.hits[self.known, 0].double().mean()) if self.known.any() else None

    @property
    def top5(self) -> float | None:
        """The share of the clips that have the right pair among the five likeliest; None where none is known."""
        return float(self.hits[self.known].any(dim=1).double().mean()) if self.known.any() else None

    @property
    def mean_class(self) -> float | None:
        """The mean of the top-1 accuracies of the actions that have clips; None where none is known."""
        if not self.known.any():
            return None
        verb, noun = self.labels[self.known].T
        action = verb * (int(noun.max()) + 1) + noun
        clips, correct = torch.bincount(action), torch.bincount(action, weights=self.hits[self.known, 0].double())
        return float((correct[clips > 0] / clips[clips > 0]).mean())


def find_actions(scores: dict[str, Tensor], labels: dict[str, Tensor], pairs: Tensor | None) -> Actions:
    """Rank the pairs of each clip: by the head for actions where there is one, else by the product of softmaxes.

    Args:
        scores: logits by target, [N, C] each.
        labels: int64 [N] of verb and noun.
        pairs: the verb and noun of each class of the head, [A, 2].
    """
    if ACTION in scores and pairs is not None:
        best = pairs[scores[ACTION].topk(min(BEST, len(pairs)), dim=1).indices.cpu()]
    else:
        best = best_pairs(scores[VERB], scores[NOUN])
    return Actions(torch.stack([labels[VERB], labels[NOUN]], dim=1), best)


def best_pairs(verbs: Tensor, nouns: Tensor, count: int = BEST) -> Tensor:
    """Return the `count` likeliest pairs of logits [N, V] and [N, M], the likeliest first: [N, count, 2].

    The probability of a pair is the product of two softmaxes, so its logarithm is the sum of two logits less what is
    the same for all pairs of a clip. No pair outside the `count` best verbs and nouns can be among the `count` best, so
    that the challenge's restriction to the 100 best of each changes nothing.
    """
    top_verbs = verbs.double().topk(min(count, verbs.shape[1]), dim=1)
    top_nouns = nouns.double().topk(min(count, nouns.shape[1]), dim=1)
    sums = top_verbs.values[:, :, None] + top_nouns.values[:, None, :]  # [N, count, count]
    place = sums.flatten(1).topk(min(count, sums[0].numel()), dim=1).indices  # [N, count]
    width = top_nouns.indices.shape[1]
    verb = top_verbs.indices.gather(1, place.div(width, rounding_mode="floor"))
    return torch.stack([verb, top_nouns.indices.gather(1, place % width)], dim=2)
