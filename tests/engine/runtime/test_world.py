"""A batch and its processes."""

from pathlib import Path

import pytest
import torch

from configs import ConfigError
from engine.runtime.world import World
from tests.engine import ranks
from tests.torchrun import forked


def test_the_batch_size_is_that_of_all_ranks_together():
    assert World(rank=1, size=4).local_batch_size(32) == 8


def test_a_batch_that_ranks_cannot_share_equally_is_refused():
    with pytest.raises(ConfigError, match=r"loader.batch_size: found 32, which 3 processes .*multiples of 3"):
        World(size=3).local_batch_size(32)
    assert World(size=4).local_batch_size(32, accumulate=8) == 8
    with pytest.raises(
        ConfigError, match=r"4 processes .* in 3 parts each \(train.accumulate\); allowed: multiples of 12"
    ):
        World(size=4).local_batch_size(32, accumulate=3)


def test_a_single_process_is_a_world_of_its_own():
    world, ones = World(), torch.ones(2)
    assert world.sum(ones).tolist() == world.gather(ones).tolist() == [1, 1]
    assert world.any_rank(True)
    assert not world.any_rank(False)
    assert world.is_main


def test_four_ranks_see_and_normalize_the_batches_of_one(split: Path, tmp_path: Path):
    _, codes = forked("tests.engine.ranks", str(split), str(tmp_path / "found.pt"), ranks=4)
    assert codes == [0, 0, 0, 0]
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found["any"] == [True, False]
    assert found["sum"] == 1 + 2 + 4 + 8
    two = ranks.joined(ranks.steps(str(split), rank, 2) for rank in range(2))
    assert found["steps"] == two == list(ranks.steps(str(split)))
    assert len(two) == 4  # two epochs of two steps
    torch.testing.assert_close(found["norm"], ranks.normalized(1, 0), rtol=1e-5, atol=2e-5)
