"""The published form of X-Norm and ours are one function, so that their times can be compared."""

import pytest
import torch

from benchmarks.training.published_xnorm import padded_copy, published_xnorm
from benchmarks.training.step import Inputs, differences, forms
from tests.models.published import published_logits


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs(2, 8, 32)


def test_every_form_gives_the_same_logits_and_gradients(inputs: Inputs):
    torch.manual_seed(0)
    models = forms(published_xnorm(width=0.25).state_dict(), width=0.25)
    published = next(iter(models.values()))[0]
    for name, (model, _) in models.items():
        logits, gradients = differences(model, published, inputs)
        assert logits < 1e-5, name
        assert gradients < 1e-3, name


def test_the_published_form_is_the_plain_network(inputs: Inputs):
    torch.manual_seed(1)
    model = published_xnorm(width=0.25).eval()
    expected = published_logits("xnorm", model.state_dict(), inputs.rgb, inputs.flow)
    torch.testing.assert_close(model(inputs.rgb, inputs.flow).logits, expected)


def test_padding_is_a_copy_where_there_is_nothing_to_pad():
    x = torch.rand(1, 1, 4, 4, 4)
    padded = padded_copy(x, (1, 1, 1), (1, 1, 1))
    assert torch.equal(padded, x)
    assert padded.data_ptr() != x.data_ptr()
