"""MulT's attention: who sees whom, and positions worked out by hand."""

import math

import pytest
import torch

from configs.methods import MultOptions
from models import build_model
from models.methods.mult import Transformer, positions

OPTIONS = MultOptions(attention_size=8, attention_heads=2, attention_layers=2)


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    return Transformer(OPTIONS).eval()


def seen_by(output, position, source):
    """The positions of `source` that the output's token at `position` depends on."""
    (gradient,) = torch.autograd.grad(output[0, position].square().sum(), source, retain_graph=True)
    return [index for index, token in enumerate(gradient[0]) if token.abs().max() > 1e-9]


@pytest.mark.parametrize("cross", [True, False])
def test_a_token_sees_itself_and_those_before_it_and_the_last_sees_all(transformer, cross):
    tokens, memory = (torch.randn(1, 5, 8, requires_grad=True) for _ in range(2))
    output = transformer(tokens, memory) if cross else transformer(tokens)
    for position in range(5):
        assert seen_by(output, position, memory if cross else tokens) == list(range(position + 1))


def test_positions_worked_out_by_hand():
    # half = 2 frequencies, 1 and 1 / 10000; sines first, from position 1; the odd feature is 0
    row = [math.sin(2), math.sin(2e-4), math.cos(2), math.cos(2e-4), 0]
    torch.testing.assert_close(positions(torch.zeros(1, 3, 5))[1], torch.tensor(row))


def test_the_order_of_tokens_matters(transformer):
    tokens, memory = torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    assert not torch.allclose(transformer(tokens, memory)[:, -1], transformer(tokens, memory.flip(1))[:, -1], atol=1e-3)


def test_logits_depend_on_the_first_and_the_last_token_of_both_streams():
    torch.manual_seed(0)
    model = build_model("mult", width=0.1).eval()
    grids = [torch.rand(1, model.rgb_enc.out_channels, 2, 2, 2, requires_grad=True) for _ in range(2)]
    model.rgb_enc.forward_features, model.flow_enc.forward_features = (lambda _clip, grid=grid: grid for grid in grids)
    model(torch.zeros(1, 3, 8, 32, 32), torch.zeros(1, 2, 8, 32, 32)).logits.square().sum().backward()
    for grid in grids:
        assert (grid.grad.flatten(2).abs().amax(dim=(0, 1)) > 0).all()  # each of the eight tokens


def test_dropout_is_for_training():
    torch.manual_seed(0)
    tokens = torch.randn(1, 5, 8)
    transformer = Transformer(OPTIONS)
    assert not torch.equal(transformer.train()(tokens), transformer(tokens))
    assert torch.equal(transformer.eval()(tokens), transformer(tokens))
