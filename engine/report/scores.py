"""Classes, confusions and mistakes of a scored split, from its predictions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.runs.provenance import class_names
from engine.scoring.intervals import Interval, share_interval
from engine.scoring.predictions import Predictions
from pipeline.format.streams import UNKNOWN


class Share(NamedTuple):
    """How many of some clips are right, and the 95 % interval."""

    hits: int
    clips: int

    @property
    def value(self) -> float:
        """0 to 1."""
        return self.hits / self.clips

    @property
    def interval(self) -> Interval:
        """Of one set of weights."""
        return share_interval(self.hits, self.clips)


class ScoredClass(NamedTuple):
    """How the clips of a class did, and what most of its mistakes were taken for ("" of none)."""

    name: str
    accuracy: Share
    taken_for: str


class Confused(NamedTuple):
    """Clips of one class that were taken for another."""

    name: str
    taken_for: str
    clips: int
    share: float  # of the clips of the class


class ScoredClip(NamedTuple):
    """What was said of a clip, with the probabilities of that and of its own class."""

    clip_id: str
    name: str
    said: str
    probability: float
    own_probability: float


@dataclass(frozen=True)
class Scores:
    """Counts over the clips that have a label.

    Attributes:
        names: of all classes, by number.
        pairs: clips by (label, prediction).
        mistakes: all wrong clips, the surest first.
        hits: all right ones, the least sure first.
    """

    names: Sequence[str]
    pairs: Counter[tuple[int, int]]
    mistakes: Sequence[ScoredClip]
    hits: Sequence[ScoredClip]

    @classmethod
    def of(cls, predictions: Predictions) -> "Scores":
        """Count what `predictions` say."""
        labels, said = predictions.labels, predictions.scores.argmax(axis=1)
        known = np.flatnonzero(labels != UNKNOWN)
        names = class_names(predictions.classes, predictions.scores.shape[1])
        surest = known[np.argsort(-predictions.scores[known, said[known]], kind="stable")].tolist()
        clips = [
            ScoredClip(
                predictions.clip_ids[clip],
                names[labels[clip]],
                names[said[clip]],
                float(predictions.scores[clip, said[clip]]),
                float(predictions.scores[clip, labels[clip]]),
            )
            for clip in surest
        ]
        is_hit = [bool(labels[clip] == said[clip]) for clip in surest]
        return cls(
            names,
            Counter(zip(labels[known].tolist(), said[known].tolist(), strict=True)),
            [clip for clip, hit in zip(clips, is_hit, strict=True) if not hit],
            [clip for clip, hit in zip(clips, is_hit, strict=True) if hit][::-1],
        )

    @property
    def accuracy(self) -> Share:
        """Of all clips."""
        return Share(len(self.hits), self.pairs.total())

    def clips_of(self, label: int) -> int:
        """How many clips have a label."""
        return sum(count for (own, _), count in self.pairs.items() if own == label)

    @property
    def classes(self) -> list[ScoredClass]:
        """Those that have clips, by number."""
        found = []
        for label in sorted({own for own, _ in self.pairs}):
            wrong = {said: count for (own, said), count in self.pairs.items() if own == label != said}
            taken_for = self.names[max(wrong, key=lambda said: wrong[said])] if wrong else ""
            accuracy = Share(self.pairs[label, label], self.clips_of(label))
            found.append(ScoredClass(self.names[label], accuracy, taken_for))
        return found

    @property
    def confused(self) -> list[Confused]:
        """Pairs of a class and what else its clips were taken for, the commonest first."""
        wrong = sorted((-count, own, said) for (own, said), count in self.pairs.items() if own != said)
        return [
            Confused(self.names[own], self.names[said], -count, -count / self.clips_of(own))
            for count, own, said in wrong
        ]
