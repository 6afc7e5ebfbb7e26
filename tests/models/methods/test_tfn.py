"""Tensor fusion: the outer product worked out by hand."""

import torch

from models import build_model
from models.methods.tfn import tensor_fusion


def test_outer_product_worked_out_by_hand():
    rgb, flow = torch.tensor([[2.0, 3.0]]), torch.tensor([[5.0, 7.0]])
    # rows: 2, 3 and the constant 1 of RGB; columns: 5, 7 and the constant 1 of flow
    assert tensor_fusion(rgb, flow).tolist() == [[10, 14, 2, 15, 21, 3, 5, 7, 1]]


def test_streams_may_differ_in_size_and_clips_do_not_mix():
    rgb, flow = torch.rand(3, 4), torch.rand(3, 2)
    fused = tensor_fusion(rgb, flow)
    assert fused.shape == (3, 15)
    assert torch.equal(fused[1:2], tensor_fusion(rgb[1:2], flow[1:2]))


def test_a_head_that_reads_the_constants_alone_is_early_fusion():
    torch.manual_seed(0)
    tfn, early = (build_model(name, width=0.1, hidden_size=4).eval() for name in ("tfn", "early"))
    weight = torch.zeros(4, 5, 5)
    weight[:, :4, 4], weight[:, 4, :4] = early.out.fc1.weight[:, :4], early.out.fc1.weight[:, 4:]
    state = early.state_dict() | {"out.fc1.weight": weight.flatten(1)}
    tfn.load_state_dict(state)
    clips = torch.rand(2, 3, 8, 32, 32), torch.rand(2, 2, 8, 32, 32)
    torch.testing.assert_close(tfn(*clips).logits, early(*clips).logits)
