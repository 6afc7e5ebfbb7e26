"""How far a training is and how well it does, by the metric that train.monitor names."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from configs.schema import LOSS


@dataclass(frozen=True)
class Monitor:
    """What train.monitor names; a score of it is the higher the better."""

    key: str

    @property
    def name(self) -> str:
        """For people."""
        return {"top1": "accuracy"}.get(self.key, self.key)

    @property
    def better(self) -> str:
        """Where better values are."""
        return "below" if self.key == LOSS else "above"

    def score(self, numbers: Mapping[str, float | None]) -> float:
        """Rank a validation by its numbers."""
        value = numbers[self.key]
        assert value is not None, "clips to validate on have labels"
        return -value if self.key == LOSS else value

    def value(self, score: float) -> float:
        """Return what has been scored so."""
        return -score if self.key == LOSS else score


@dataclass
class TrainProgress:
    """How far a run is, and how well it did."""

    epoch: int = 0  # epochs trained and validated
    step: int = 0  # steps of the run
    batches: int = 0  # steps of the epoch that is under way
    best_score: float = -math.inf  # of a validation, by Monitor
    best_epoch: int = 0  # the last one with that score
    improved_epoch: int = 0  # the first one with it
    best: dict[str, float | None] = field(default_factory=dict)  # the metrics of best_epoch
    prepared: int = 0  # epochs that the method has been prepared for
    seconds: float = 0.0  # wall time of the parts of the run before this one
    peak_memory: int = 0  # bytes, likewise
    skipped: dict[str, int] = field(default_factory=dict)  # corrupt clips, and how often others stood in for each

    def end_epoch(self, score: float, numbers: dict[str, float | None]) -> bool:
        """Count an epoch that is validated, with its score and metrics; return whether it is the best so far."""
        self.epoch += 1
        self.batches = 0
        is_best = score >= self.best_score
        if is_best:
            if score > self.best_score:
                self.improved_epoch = self.epoch
            self.best_score, self.best_epoch, self.best = score, self.epoch, numbers
        return is_best

    def forget_best(self) -> None:
        """Let the epochs to come decide which is the best."""
        self.best_score, self.best_epoch, self.improved_epoch = -math.inf, self.epoch, self.epoch

    def add_skipped(self, times: Mapping[str, int]) -> None:
        """Count corrupt clips, by how often others stood in for each."""
        for clip_id, count in times.items():
            self.skipped[clip_id] = self.skipped.get(clip_id, 0) + count
