"""The 95 % intervals: known values, an independent bootstrap, and how often they hold the truth."""

import numpy as np
import pytest
import torch
from torchmetrics import MeanMetric
from torchmetrics.wrappers import BootStrapper

from engine.scoring import intervals
from engine.scoring.intervals import accuracy_interval, mean_interval

T_2, T_4 = 4.302653, 2.776445  # 97.5 % quantiles of Student's t
Z = 1.959964


def test_one_accuracy_has_the_interval_of_the_binomial_distribution():
    hits = np.zeros((1, 1000))
    hits[0, :300] = 1
    low, high = mean_interval(hits, lowest=0.0)
    half = Z * np.sqrt(0.3 * 0.7 / 1000)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.0015)


def test_a_paired_difference_has_mcnemar_s_variance():
    """Of 500 clips 60 are right in the first alone and 30 in the second alone; the other 410 say nothing."""
    values = np.zeros((1, 500))
    values[0, :60], values[0, 60:90] = 1, -1
    half = Z * np.sqrt(60 + 30 - (60 - 30) ** 2 / 500) / 500
    assert mean_interval(values) == pytest.approx((0.06 - half, 0.06 + half), abs=0.003)


def test_it_is_the_bootstrap_of_torchmetrics():
    values = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], size=(1, 40), p=[0.1, 0.5, 0.4])
    torch.manual_seed(0)
    both = torch.tensor([0.025, 0.975])
    bootstrap = BootStrapper(MeanMetric(), num_bootstraps=400, quantile=both, sampling_strategy="multinomial")
    bootstrap.update(torch.from_numpy(values[0]))
    assert mean_interval(values) == pytest.approx(bootstrap.compute()["quantile"].tolist(), abs=0.04)


@pytest.mark.parametrize(("seeds", "t"), [([0.2, 0.5, 0.6], T_2), ([0.1, 0.2, 0.2, 0.3, 0.2], T_4)])
def test_where_clips_say_nothing_the_seeds_have_student_s_interval(seeds: list[float], t: float):
    values = np.repeat(np.array(seeds)[:, None], 64, axis=1)
    half = t * np.std(seeds, ddof=1) / np.sqrt(len(seeds))
    assert mean_interval(values) == pytest.approx((np.mean(seeds) - half, np.mean(seeds) + half), abs=0.05 * half)


def test_where_seeds_differ_no_more_than_clips_explain_it_is_the_bootstrap_over_clips():
    one = np.zeros((1, 400))
    one[0, :100] = 1
    assert mean_interval(np.repeat(one, 3, axis=0)) == mean_interval(one)


def test_it_is_the_same_each_time_and_stays_in_range():
    hits = np.random.default_rng(0).random((2, 30)) < 0.97
    assert mean_interval(hits.astype(float), lowest=0.0) == mean_interval(hits.astype(float), lowest=0.0)
    assert mean_interval(hits.astype(float), lowest=0.0).high <= 1
    assert mean_interval(np.ones((3, 5))) == (1, 1)
    assert mean_interval(np.array([[1.0], [0.0]]), lowest=0.0) == (0, 1)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_all_right_or_all_wrong_says_how_few_the_clips_are(accuracy: float):
    low, high = accuracy_interval(np.full((3, 512), accuracy))
    far = Z**2 / (512 + Z**2)  # Wilson's other end, where the share is 0 or 1
    assert (low, high) == pytest.approx((1 - far, 1) if accuracy else (0, far))
    some = (np.random.default_rng(0).random((2, 50)) < 0.8).astype(float)
    assert accuracy_interval(some) == mean_interval(some, lowest=0.0)


def test_the_clips_draws_are_exact_for_many_clips_at_once():
    """67,217 clips of five seeds in far less than a second, as each distinct mean is drawn once."""
    hits = np.random.default_rng(0).random((5, 67_217)) < 0.4
    low, high = mean_interval(hits.astype(float), lowest=0.0)
    assert high - low < 0.01


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.5])
def test_it_holds_the_truth_about_nineteen_times_in_twenty(spread: float, monkeypatch: pytest.MonkeyPatch):
    """Two methods of one accuracy, over three seeds whose logits differ by `spread`: the difference is 0."""
    monkeypatch.setattr(intervals, "NUM_DRAWS", 1000)
    generator = np.random.default_rng(7)

    def hits() -> np.ndarray:
        skill = 1 + spread * generator.standard_normal((3, 1))
        return (generator.random((3, 256)) < 1 / (1 + np.exp(-skill - difficulty))).astype(float)

    held = []
    for _ in range(200):
        difficulty = generator.standard_normal(256)
        low, high = mean_interval(hits() - hits())
        held.append(low <= 0 <= high)
    assert 0.88 < np.mean(held) <= 1
