"""What a method's logits say of each target, and the loss of each; methods themselves know of no targets."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from configs.options import ClassCounts, CommonOptions

VERB, NOUN, ACTION = "verb", "noun", "action"  # an action is a pair of a verb and a noun


class Targets(nn.Module):
    """How the logits of a head [B, C] are shared out: the classes of each target, in the order of `model.targets`.

    A module, so that losses know whether they are trained on: class weights and smoothing are for training alone.

    Attributes:
        classes: how many each has, by its name; None is the data's first target, whatever it is called.
        actions: where there is an `action` among the names, the verb and noun of each of its classes, int64 [A, 2];
            known from the training data on.
        label_smoothing: in training, the share of a label that all classes get alike (Szegedy et al., CVPR 2016,
            section 7).
        class_weights: in training, by class of each target, one target after the other, [C]; None: 1 for all.
            Checkpoints do not have them.
    """

    actions: Tensor | None
    class_weights: Tensor | None

    def __init__(self, options: CommonOptions) -> None:
        super().__init__()
        counts = options.num_classes
        names = options.targets or (None,)
        self.classes: dict[str | None, int] = (
            {name: counts.by_target[str(name)] for name in names}
            if isinstance(counts, ClassCounts)
            else {names[0]: int(counts)}
        )
        self.actions: Tensor | None = None
        self._weights = options.target_weights or {}
        self.label_smoothing = 0.0
        self.register_buffer("class_weights", None, persistent=False)

    @property
    def has_actions(self) -> bool:
        """Whether verbs, nouns and so actions can be told."""
        return ACTION in self.classes or {VERB, NOUN} <= self.classes.keys()

    def labels(self, first: Tensor, by_name: Mapping[str, Tensor]) -> Tensor:
        """Pick what losses are computed from out of a batch's targets: [B], or [B, targets] where there are several."""
        labels = [first if name is None else by_name[name] for name in self.classes]
        return labels[0] if len(labels) == 1 else torch.stack(labels, dim=1)

    def losses(self, logits: Tensor, labels: Tensor, term: str = "cls") -> dict[str, Tensor]:
        """Return the weighted cross-entropy of each target by the name of its term, cls_verb and so on.

        With one target it is `term` itself.

        Args:
            logits: of any head of `num_classes` outputs, [B, C].
            labels: [B], or [B, targets] where there are several.
            term: what the terms are called.
        """
        heads, is_single = self.split(logits), len(self.classes) == 1
        class_weights = self.class_weights if self.training else None
        weights = {} if class_weights is None else self.split(class_weights[None])  # each [1, C]
        smoothing = self.label_smoothing if self.training else 0.0
        return {
            term if is_single else f"{term}_{name}": self._weights.get(str(name), 1.0)
            * cross_entropy(head, label, weights.get(name), smoothing)
            for (name, head), label in zip(heads.items(), labels.view(len(labels), -1).unbind(dim=1), strict=True)
        }

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of `losses`, a scalar."""
        return torch.stack(list(self.losses(logits, labels).values())).sum()

    def num_correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Count the clips of a batch of which all targets are right, on the device."""
        rows = labels.reshape(len(labels), -1)  # [B, targets]
        predictions = [head.argmax(dim=1) for head in self.split(logits).values()]
        return (torch.stack(predictions, dim=1) == rows).all(dim=1).sum()

    def split(self, logits: Tensor) -> dict[str | None, Tensor]:
        """Return the part of logits [N, C] that is each target's, by name."""
        return dict(zip(self.classes, logits.split_with_sizes(list(self.classes.values()), dim=1), strict=True))

    def scores(self, logits: Tensor) -> dict[str | None, Tensor]:
        """Return the logits of each target; of verbs and nouns that have no head, those of the actions' marginals."""
        scores = self.split(logits)
        if ACTION in scores and self.actions is not None:
            for name, classes in zip((VERB, NOUN), self.actions.T, strict=True):
                if name not in scores:
                    scores[name] = marginal(scores[ACTION], classes)
        return scores


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of one target's logits [B, C] against labels [B], in fp32; a scalar.

    With `weights` [1, C] of the classes the mean is over clips, not over weights as torch's: so that of a batch is the
    mean of those of its parts.
    """
    if weights is None:
        return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
    losses = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction="none")
    return (losses * weights[0, labels]).mean()


def marginal(logits: Tensor, classes: Tensor) -> Tensor:
    """Sum the probabilities of logits [N, A] over those of each class, of `classes` [A]: log-probabilities [N, C].

    The logarithm of the sum of the softmax; a class that none of the A has gets -inf.
    """
    log_p = logits.double().log_softmax(dim=1)
    number = int(classes.max()) + 1
    index = classes.to(logits.device).expand(len(logits), -1)  # [N, A]
    largest = log_p.new_full((len(logits), number), -torch.inf).scatter_reduce(1, index, log_p, "amax")
    shifted = (log_p - largest.gather(1, index)).exp()
    return (log_p.new_zeros(largest.shape).scatter_add(1, index, shifted).log() + largest).float()
