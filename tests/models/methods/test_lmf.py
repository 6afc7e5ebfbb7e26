"""LMF: a linear map of tensor fusion's outer product, whose weights are built here from the factors."""

import torch

from models import build_model
from models.methods.tfn import tensor_fusion


def test_it_is_the_map_of_the_outer_product_that_its_factors_stand_for() -> None:
    torch.manual_seed(0)
    model = build_model("lmf", width=0.05, hidden_size=6, rank=3).double()
    torch.nn.init.normal_(model.fusion_bias)
    rgb, flow = torch.randn(2, 4, 6, dtype=torch.double)
    weights = torch.einsum("i,iah,ibh->abh", model.fusion_weights[0], model.rgb_factor, model.flow_factor)  # [7, 7, 6]
    expected = tensor_fusion(rgb, flow) @ weights.flatten(0, 1) + model.fusion_bias
    torch.testing.assert_close(model.fuse(rgb, flow), expected)


def test_the_weights_have_the_rank_that_is_asked_for() -> None:
    torch.manual_seed(0)
    model = build_model("lmf", width=0.05, hidden_size=8, rank=2)
    weights = torch.einsum("i,iah,ibh->hab", model.fusion_weights[0], model.rgb_factor, model.flow_factor)
    assert torch.linalg.matrix_rank(weights).tolist() == [2] * 8
