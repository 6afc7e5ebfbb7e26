"""Memory of batches is used again when nobody has them any more, and never before."""

import torch

from pipeline.batch import BufferPool


def test_memory_is_used_again_once_its_tensor_is_gone() -> None:
    pool = BufferPool()
    first = pool.take((4, 5))
    address = first.data_ptr()
    del first
    assert pool.take((2, 10)).data_ptr() == address


def test_a_view_or_an_array_of_a_tensor_keeps_its_memory() -> None:
    pool = BufferPool()
    tensor = pool.take((4, 5))
    tensor.zero_()
    view, array = tensor[1:].permute(1, 0), tensor.numpy()[0]
    del tensor
    pool.take((4, 5)).fill_(1)
    assert not view.any()
    assert not array.any()
    del view
    pool.take((4, 5)).fill_(1)
    assert not array.any()


def test_no_more_memory_waits_than_was_asked_for() -> None:
    pool = BufferPool(keep=2)
    addresses = {tensor.data_ptr() for tensor in [pool.take((100,)) for _ in range(5)]}
    again = [pool.take((100,)) for _ in range(2)]
    assert {tensor.data_ptr() for tensor in again} <= addresses
    assert len(pool._free) == 0


def test_memory_that_is_too_small_is_given_up() -> None:
    pool = BufferPool()
    pool.take((10,))
    large = pool.take((1000,)).fill_(7)
    assert torch.equal(large, torch.full((1000,), 7, dtype=torch.uint8))
    assert len(pool._free) == 0
