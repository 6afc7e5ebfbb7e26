"""MMTM's gates: numbers worked out by hand, its weights counted, and where they stand."""

import math

import pytest
import torch

from models import build_model
from models.methods.mmtm import Gate


def test_numbers_worked_out_by_hand() -> None:
    gate = Gate(1, 1, ratio=4)  # one joint value
    for layer, weight, bias in (
        (gate.squeeze, [[1.0, 2.0]], 0.5),
        (gate.rgb, [[0.3]], 0.0),
        (gate.flow, [[-1.0]], 1.0),
    ):
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor([bias])
    rgb, flow = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1), torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1)
    joint = 1 * 2.0 + 2 * 0.5 + 0.5  # of the means
    rgb_gate, flow_gate = 2 / (1 + math.exp(-0.3 * joint)), 2 / (1 + math.exp(joint - 1))
    gated_rgb, gated_flow = gate(rgb, flow)
    assert gated_rgb.flatten().tolist() == pytest.approx([rgb_gate, 3 * rgb_gate])
    assert gated_flow.flatten().tolist() == pytest.approx([0, flow_gate])


def test_a_negative_sum_leaves_both_streams_as_they_are() -> None:
    gate = Gate(2, 3, ratio=4)
    torch.nn.init.constant_(gate.squeeze.weight, -1.0)
    for layer in (gate.rgb, gate.flow):
        torch.nn.init.zeros_(layer.bias)
    rgb, flow = 1 + torch.rand(2, 2, 2, 3, 3), 1 + torch.rand(2, 3, 2, 3, 3)
    assert all(torch.equal(*pair) for pair in zip(gate(rgb, flow), (rgb, flow), strict=True))  # 2 sigmoid(0) = 1


def test_its_gates_have_as_many_weights_as_the_paper_and_nearly_those_of_xnorm() -> None:
    with torch.device("meta"):
        mmtm, xnorm = build_model("mmtm"), build_model("xnorm")
    assert sum(parameter.numel() for parameter in mmtm.gates.parameters()) == 5_510_400
    exchange = [value.numel() for name, value in xnorm.named_parameters() if name.startswith(("rgb2flow", "flow2rgb"))]
    assert sum(exchange) == 5_512_192


def test_gates_stand_where_the_options_say() -> None:
    model = build_model("mmtm", width=0.05, exchange_after=("Mixed_3c", "Mixed_5b"))
    assert list(model.gates) == ["Mixed_3c", "Mixed_5b"]
