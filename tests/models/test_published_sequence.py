"""MISA, MulT and Gradient-Blending compute what their plain forms compute; their goldens come from those."""

import pytest
import torch
import torch.nn.functional as F

from models import build_model
from models.checkpoint import load_published
from tests.models.published import published_logits, rebuilt_clips, rebuilt_state
from tests.models.published_sequence import misa_outputs, mult_logits

LABELS = torch.tensor([3, 0])
TERMS = ("diff", "cmd", "recon")


def small(method, **options):
    """A small model in fp64 with rebuilt weights, and those weights."""
    model = build_model(method, width=0.05, **options).double().eval()
    own = {name: value.shape for name, value in model.state_dict().items() if name not in model.unpublished}
    state = rebuilt_state(own)
    load_published(model, state)
    return model, state


def features(model, frames=9, size=64):
    """Both trunks' last features of two clips, from the model itself: the trunks are held to their own plain form."""
    with torch.no_grad():
        streams = zip(("rgb_enc", "flow_enc"), rebuilt_clips(2, frames, size), strict=True)
        return [model.get_submodule(trunk).forward_features(clip) for trunk, clip in streams]


def behind_the_trunks(model, grids):
    """What the model computes from given features."""
    for trunk, grid in zip(("rgb_enc", "flow_enc"), grids, strict=True):
        model.get_submodule(trunk).forward_features = lambda _clip, grid=grid: grid
    return model(*rebuilt_clips(2, 8, 32))


def assert_same_gradients(model, leaves, loss, expected):
    """Gradients of the two losses agree in every parameter that either of them reaches."""
    loss.backward()
    expected.backward()
    reached = 0
    for name, parameter in model.named_parameters():
        if parameter.grad is None and leaves[name].grad is None:
            continue
        torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-7, atol=1e-10, msg=name)
        reached += 1
    assert reached > 20


def leaves_of(model, state):
    trained = dict(model.named_parameters())
    return {name: value.requires_grad_(name in trained) for name, value in state.items()}


def test_misa_equals_its_plain_form():
    model, state = small("misa", hidden_size=16)
    grids, leaves = features(model), leaves_of(model, state)
    assert grids[0].shape[2:] == (2, 2, 2)  # a sequence, not one token
    output, expected = behind_the_trunks(model, grids), misa_outputs(leaves, *grids)
    torch.testing.assert_close(output.logits, expected["logits"], rtol=1e-9, atol=1e-10)
    losses = model.losses(output, LABELS)
    for term in TERMS:
        weight = getattr(model.options, f"{term}_weight")
        torch.testing.assert_close(losses[term], weight * expected[term], rtol=1e-9, atol=1e-12)
    total = 0.3 * expected["diff"] + expected["cmd"] + expected["recon"]
    total = total + F.cross_entropy(expected["logits"].float(), LABELS)  # the model's own is in fp32
    assert_same_gradients(model, leaves, sum(losses.values()), total)


def test_mult_equals_its_plain_form():
    model, state = small("mult", attention_layers=2)
    grids, leaves = features(model), leaves_of(model, state)
    logits, expected = behind_the_trunks(model, grids).logits, mult_logits(leaves, *grids)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-10)
    assert_same_gradients(model, leaves, F.cross_entropy(logits, LABELS), F.cross_entropy(expected, LABELS))


def test_the_heads_of_gradient_blending_are_rgb_flow_and_early():
    model, state = small("gblend", hidden_size=16)
    clips = rebuilt_clips(2, 8, 32)
    output = model(*clips)
    for head, logits in (("rgb", output.extra["rgb"]), ("flow", output.extra["flow"]), ("early", output.logits)):
        torch.testing.assert_close(logits, published_logits(head, state, *clips), rtol=1e-9, atol=1e-10)


# logits of the first clip's first three classes behind whole networks, 9 x 64 x 64, by the plain forms
GOLDEN = {"misa": [0.15384028, -0.30135945, -0.00190362], "mult": [-0.44413087, 0.33859525, 0.2372147]}


@pytest.mark.parametrize(("method", "options"), [("misa", {"hidden_size": 16}), ("mult", {"attention_layers": 2})])
def test_golden_logits(method, options):
    model, _ = small(method, **options)
    logits = model(*rebuilt_clips(2, 9, 64)).logits
    torch.testing.assert_close(logits[0, :3].tolist(), GOLDEN[method], rtol=1e-6, atol=1e-7)
