"""Gradient-Blending: weights worked out by hand, the rule for what the formula cannot use, and when it estimates."""

import pytest
import torch
import torch.nn.functional as F

from models import FitResult, build_model
from models.methods.early import EarlyFusion
from models.methods.gblend import blend_weights, generalisation, overfitting
from models.methods.unimodal import FlowOnly, RgbOnly

SMALL = {"width": 0.1, "hidden_size": 16}
pytestmark = pytest.mark.filterwarnings("ignore:Gradient-Blending")  # those that are expected are asked for


def result(gain, gap):
    """A short training with this dG and this dO, from 2.0 nats on both sides."""
    return FitResult(train_before=2.0, train_after=2.0 - gain - gap, holdout_before=2.0, holdout_after=2.0 - gain)


class FakeFit:
    """Stands in for the trainer; notes what it was asked for, and spoils the weights it was given."""

    def __init__(self, epoch=0, results=None):
        self.epoch = epoch
        self.results = iter(results or [result(1.0, 0.5), result(0.5, 0.5), result(1.0, 1.0)])
        self.calls = []

    def __call__(self, model, loss, **options):
        self.calls.append((type(model), model.streams, options))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return next(self.results)


def clips():
    torch.manual_seed(1)
    return torch.rand(2, 3, 8, 32, 32), torch.rand(2, 2, 8, 32, 32)


def test_gain_and_gap_worked_out_by_hand():
    training = FitResult(train_before=2.0, train_after=0.5, holdout_before=2.25, holdout_after=1.25)
    assert generalisation(training) == 1.0
    assert overfitting(training) == 0.5  # the gap was 0.25 and is 0.75


def test_weights_worked_out_by_hand():
    weights = blend_weights({"rgb": result(1.0, 0.5), "flow": result(0.5, 0.5), "joint": result(1.0, 1.0)})
    # dG / dO^2: 4, 2, 1
    assert weights == pytest.approx({"rgb": 4 / 7, "flow": 2 / 7, "joint": 1 / 7})


@pytest.mark.parametrize("gap", [0.0, -0.3, 0.049])
def test_a_gap_within_chance_counts_as_the_least(gap):
    with pytest.warns(UserWarning, match=r"head flow: it hardly overfits \(dO = .*taken as 0\.05"):
        weights = blend_weights({"rgb": result(0.5, 0.05), "flow": result(0.5, gap), "joint": result(1.0, 0.05)})
    assert weights == pytest.approx({"rgb": 0.25, "flow": 0.25, "joint": 0.5})


@pytest.mark.parametrize("gain", [0.0, 0.009, -1.0, float("nan")])
def test_a_head_that_does_not_generalise_keeps_the_least_weight(gain):
    with pytest.warns(UserWarning, match="head joint: the held-out loss hardly fell, or rose"):
        weights = blend_weights({"rgb": result(1.0, 0.5), "flow": result(1.0, 0.5), "joint": result(gain, 0.5)})
    assert weights == pytest.approx({"rgb": 0.5 / 1.01, "flow": 0.5 / 1.01, "joint": 0.01 / 1.01})


def test_a_share_below_the_floor_is_raised_with_a_warning():
    # dG / dO^2: 400, 1, 400; the share of flow is 1 / 801
    with pytest.warns(UserWarning, match=r"head flow: its share of the weights is small \(0\.00125\), taken as 0\.01"):
        weights = blend_weights({"rgb": result(1.0, 0.05), "flow": result(1.0, 1.0), "joint": result(1.0, 0.05)})
    total = 2 * 400 / 801 + 0.01
    assert weights == pytest.approx({"rgb": 400 / 801 / total, "flow": 0.01 / total, "joint": 400 / 801 / total})


def test_heads_weigh_alike_where_none_generalises():
    with pytest.warns(UserWarning, match="all get the same weight"):
        weights = blend_weights({head: result(-0.1, 0.5) for head in ("rgb", "flow", "joint")})
    assert weights == pytest.approx({"rgb": 1 / 3, "flow": 1 / 3, "joint": 1 / 3})


def test_prepare_trains_each_head_alone_and_logs_what_it_found():
    model = build_model("gblend", estimation_epochs=2, estimation_subset=0.5, estimation_holdout=0.25, **SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    fit = FakeFit()
    numbers = model.prepare(fit)
    options = {"epochs": 2, "subset": 0.5, "holdout": 0.25}
    streams = ("rgb",), ("flow",), ("rgb", "flow")
    assert fit.calls == [(m, s, options) for m, s in zip((RgbOnly, FlowOnly, EarlyFusion), streams, strict=True)]
    assert numbers == pytest.approx(
        {"rgb_dG": 1.0, "rgb_dO": 0.5, "rgb_w": 4 / 7, "flow_dG": 0.5, "flow_dO": 0.5, "flow_w": 2 / 7}
        | {"joint_dG": 1.0, "joint_dO": 1.0, "joint_w": 1 / 7}
    )
    torch.testing.assert_close(model.head_weights, torch.tensor([4 / 7, 2 / 7, 1 / 7]))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head_weights", "estimated_before"}
    assert torch.equal(torch.get_rng_state(), random)


def test_losses_are_weighted_and_the_joint_head_predicts():
    model = build_model("gblend", **SMALL).eval()
    output, labels = model(*clips()), torch.tensor([0, 1])
    heads = {"cls": output.logits, "rgb": output.extra["rgb"], "flow": output.extra["flow"]}
    for weights in ((1.0, 1.0, 1.0), (0.5, 0.3, 0.2)):  # of rgb, flow, joint; the first is before any estimate
        if weights[0] != 1:
            model.head_weights.copy_(torch.tensor(weights))
        of = {"cls": weights[2], "rgb": weights[0], "flow": weights[1]}
        for name, loss in model.losses(output, labels).items():
            torch.testing.assert_close(loss, of[name] * F.cross_entropy(heads[name], labels))


def test_heads_alone_are_the_same_functions():
    model = build_model("gblend", **SMALL).eval()
    output = model(*clips())
    expected = {"rgb": output.extra["rgb"], "flow": output.extra["flow"], "joint": output.logits}
    for head, logits in expected.items():
        torch.testing.assert_close(model.alone(head).eval()(*clips()).logits, logits)


def test_a_frozen_trunk_stays_frozen_in_a_head_alone():
    alone = build_model("gblend", freeze_trunk=True, **SMALL).alone("rgb").train()
    assert alone.rgb_enc.frozen
    assert not alone.rgb_enc.Mixed_3b.b0.conv3d.weight.requires_grad
    assert alone.rgb_out.fc1.weight.requires_grad


@pytest.mark.parametrize(("online", "estimated"), [(None, [0]), (1, [0, 1, 2]), (2, [0, 2])])
def test_estimates_once_or_every_n_epochs(online, estimated):
    model = build_model("gblend", online=online, **SMALL)
    assert [epoch for epoch in range(3) if model.prepare(FakeFit(epoch))] == estimated


@pytest.mark.parametrize("online", [None, 2])
def test_a_resumed_run_does_not_estimate_again(online):
    model = build_model("gblend", online=online, **SMALL)
    model.prepare(FakeFit(4))
    resumed = build_model("gblend", online=online, **SMALL)
    resumed.load_state_dict(model.state_dict())
    fit = FakeFit(4)
    assert resumed.prepare(fit) == {}
    assert resumed.prepare(FakeFit(5)) == {}
    assert fit.calls == []
    assert torch.equal(resumed.head_weights, model.head_weights)
