"""Every method computes what the published network computes: against a plain re-implementation, and the reference."""

import importlib.util

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models import build_model
from models.checkpoint import load_published
from tests.models.published import (
    REFERENCE,
    published_logits,
    rebuilt_clips,
    rebuilt_state,
    reference_shapes,
)

PLAIN = ("rgb", "flow", "early", "late", "xnorm")  # those that are written down in published.py
METHODS = (*PLAIN, "misa", "mult", "gblend")
LABELS = torch.tensor([3, 0])
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference folder is not at hand")


def small(method, **options):
    """A small model in fp64 with rebuilt weights, and those weights."""
    model = build_model(method, width=0.1, hidden_size=16, **options).double().eval()
    state = rebuilt_state({name: value.shape for name, value in model.state_dict().items()})
    load_published(model, state)
    return model, state


def grad_norm(parameters):
    """The norm of the whole gradient, summed in fp64: in fp32 the sum over 8 million values is off by 1e-4."""
    squares = [p.grad.double().square().sum() for p in parameters if p.grad is not None]
    return torch.stack(squares).sum().sqrt().item()


@pytest.mark.parametrize("method", PLAIN)
@pytest.mark.parametrize(("frames", "size"), [(8, 32), (11, 45)])
def test_logits_and_gradients_equal_a_plain_network(method, frames, size):
    model, state = small(method)
    rgb, flow = rebuilt_clips(2, frames, size)
    trained = dict(model.named_parameters())
    leaves = {name: value.requires_grad_(name in trained) for name, value in state.items()}

    logits = model(rgb, flow).logits
    expected = published_logits(method, leaves, rgb, flow)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)

    F.cross_entropy(logits, LABELS).backward()
    F.cross_entropy(expected, LABELS).backward()
    for name, parameter in trained.items():
        torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-7, atol=1e-9, msg=name)


def test_sequential_exchange_equals_a_plain_network_and_differs_from_parallel():
    model, state = small("xnorm", exchange_order="sequential")
    clips = rebuilt_clips(2, 9, 45)
    logits = model(*clips).logits
    torch.testing.assert_close(logits, published_logits("xnorm", state, *clips, sequential=True))
    assert not torch.allclose(logits, published_logits("xnorm", state, *clips), rtol=1e-2)


# logits of the first clip's first three classes, by published_logits above, 8 x 32 x 32
GOLDEN = {
    "rgb": [-0.71277386, -1.57052223, -0.73563634],
    "flow": [-1.55922326, -2.1525399, 1.08108497],
    "early": [-0.19850066, 0.27844163, 1.0417123],
    "late": [-1.13599856, -1.86153107, 0.17272431],
    "xnorm": [-0.83614143, -0.83972556, 0.89527051],
}


@pytest.mark.parametrize("method", PLAIN)
def test_golden_logits(method):
    model, _ = small(method)
    logits = model(*rebuilt_clips(2, 8, 32)).logits
    torch.testing.assert_close(logits[0, :3].tolist(), GOLDEN[method], rtol=1e-6, atol=1e-7)


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference_weights", REFERENCE / "weights.py")
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    rgb, flow, labels = (torch.from_numpy(array) for array in weights.reference_inputs())
    return weights, rgb, flow, labels, np.load(REFERENCE / "published_outputs.npz")


def assert_close(actual, expected):
    """Within 1e-4 of the largest value."""
    actual = np.asarray(actual)
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()


@needs_reference
@pytest.mark.parametrize("method", METHODS)
def test_equals_the_published_outputs(method, reference):
    weights, rgb, flow, labels, outputs = reference
    torch.set_num_threads(2)
    # the published code freezes the trunk of these two, so that its gradient is no part of the norm
    model = build_model(method, freeze_trunk=method in ("misa", "mult")).eval()
    shapes = reference_shapes(method)
    load_published(model, {name: torch.from_numpy(v) for name, v in weights.reference_state(shapes).items()})
    stages = {}
    for stage in ("Mixed_3b", "Mixed_5c"):
        hook = lambda _module, _inputs, output, stage=stage: stages.update({stage: output.detach()})  # noqa: E731
        if method == "rgb":
            model.rgb_enc.get_submodule(stage).register_forward_hook(hook)

    output = model(rgb, flow)
    losses = model.losses(output, labels)
    losses["cls"].backward()

    assert_close(output.logits.detach(), outputs[f"{method}.{'joint' if method == 'gblend' else 'logits'}"])
    assert_close(losses["cls"].detach(), outputs[f"{method}.ce"])
    assert_close(grad_norm(model.parameters()), outputs[f"{method}.grad_norm"])
    for stage, features in stages.items():
        assert_close(features.abs().mean((0, 2, 3, 4)), outputs[f"i3d.{stage}.mean_abs"])
    if method == "gblend":
        for head in ("rgb", "flow"):
            assert_close(output.extra[head].detach(), outputs[f"gblend.{head}"])
    if method == "misa":
        for term in ("diff", "cmd", "recon"):
            weight = getattr(model.options, f"{term}_weight")
            assert_close(losses[term].detach() / weight, outputs[f"misa.{term}"])
