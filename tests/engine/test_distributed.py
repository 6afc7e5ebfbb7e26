"""A batch and its processes."""

import pytest
import torch

from configs import ConfigError
from engine.distributed import World


def test_the_batch_size_is_that_of_all_ranks_together():
    assert World(rank=1, size=4).share(32) == 8


def test_a_batch_that_ranks_cannot_share_equally_is_refused():
    with pytest.raises(ConfigError, match=r"loader.batch_size: found 32, which 3 processes .*multiples of 3"):
        World(size=3).share(32)


def test_a_single_process_is_a_world_of_its_own():
    world, ones = World(), torch.ones(2)
    assert world.sum(ones).tolist() == world.gather(ones).tolist() == [1, 1]
    assert world.any(True)
    assert not world.any(False)
    assert world.is_main
