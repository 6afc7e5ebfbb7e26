"""What holds for every registered method, by the contract alone."""

from pathlib import Path

import pytest
import torch

from configs.methods import METHODS
from models import FUSIONS, FusionModel, FusionOutput, build_model
from models.fusion import to_unit_range

SMALL = {"width": 0.1, "hidden_size": 16}
# MulT has no hidden size; MISA's four sigmoid codes of 16 cannot be told apart, and its losses make them all alike
SIZES = dict.fromkeys(FUSIONS, SMALL) | {"mult": {"width": 0.1}, "misa": {"width": 0.1, "hidden_size": 64}}
# millions, as published, and for tfn with the (128 + 1)^2 products of its head's first layer
PARAMETERS = {"rgb": 12.45, "flow": 12.43, "early": 24.87, "late": 24.88, "gblend": 24.93, "xnorm": 30.40}
PARAMETERS |= {
    "misa": 111.19,
    "mult": 25.67,
    "tfn": 26.96,
    "lmf": 24.98,
    "mmtm": 30.39,
    "ogm_ge": 24.88,
    "mmpareto": 24.93,
    "distill": 12.45,
}
CONFIGS = Path(__file__).parents[2] / "configs"
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
every_fusion = pytest.mark.parametrize("fusion", FUSIONS)


@pytest.fixture(autouse=True)
def _same_weights_every_time():
    torch.manual_seed(0)


def clips(batch=4, frames=8, size=32):
    generator = torch.Generator().manual_seed(1)
    rgb, flow = (
        torch.randint(256, (batch, channels, frames, size, size), dtype=torch.uint8, generator=generator)
        for channels in (3, 2)
    )
    return rgb, flow


def inputs(model, rgb, flow):
    """The streams that the model asks for; None for the other."""
    return rgb if "rgb" in model.streams else None, flow if "flow" in model.streams else None


def test_every_method_has_options_and_a_model():
    assert list(FUSIONS) == list(METHODS)


@pytest.fixture
def without_onednn():
    """Kernels that are right in bf16 on every CPU; oneDNN's are not where there is avx512_bf16."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@every_fusion
@pytest.mark.usefixtures("without_onednn")
@pytest.mark.parametrize("batch", [4, 1])  # the last of an epoch may be one clip
@pytest.mark.parametrize("half", [False, True])
def test_every_trainable_parameter_gets_a_finite_gradient(fusion, batch, half):
    model = build_model(fusion, **SIZES[fusion]).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        output = model(*inputs(model, *clips(batch)))
        losses = model.losses(output, torch.arange(batch))
    sum(losses.values()).backward()
    assert output.logits.shape == (batch, 8)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@every_fusion
def test_overfits_one_batch(fusion):
    model = build_model(fusion, dropout=0.0, **SIZES[fusion])
    streams, labels = inputs(model, *clips(frames=16)), torch.arange(4)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3 if fusion == "misa" else 1e-2)  # it is recurrent
    loss = torch.tensor(torch.inf)
    for _ in range(60):
        optimizer.zero_grad()
        losses = model.losses(model(*streams), labels)
        loss = losses["cls"]
        if loss < 0.5:  # log 4 = 1.39 is what is had without telling the four clips apart
            break
        sum(losses.values()).backward()
        optimizer.step()
    assert loss < 0.5


@every_fusion
@pytest.mark.usefixtures("without_onednn")
def test_bf16_autocast_is_near_fp32(fusion):
    model = build_model(fusion, **SIZES[fusion]).eval()
    streams = inputs(model, *clips())
    expected = model(*streams).logits
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(*streams).logits
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.05)


@every_fusion
def test_a_clip_is_judged_alone_in_eval_mode(fusion):
    model = build_model(fusion, **SIZES[fusion]).eval()
    rgb, flow = clips(batch=3)
    alone = model(*inputs(model, rgb[1:2], flow[1:2])).logits
    torch.testing.assert_close(model(*inputs(model, rgb, flow)).logits[1:2], alone, rtol=1e-4, atol=1e-5)


@every_fusion
def test_pixels_equal_floats(fusion):
    model = build_model(fusion, **SIZES[fusion]).eval()
    rgb, flow = clips()
    floats = model(*inputs(model, rgb / 127.5 - 1, flow / 127.5 - 1)).logits
    torch.testing.assert_close(model(*inputs(model, rgb, flow)).logits, floats, rtol=1e-5, atol=1e-6)


@every_fusion
def test_channels_last_clips_give_the_same_logits(fusion):
    model = build_model(fusion, **SIZES[fusion]).eval()
    rgb, flow = clips()
    expected = model(*inputs(model, rgb, flow)).logits
    layouts = inputs(model, rgb.contiguous(memory_format=torch.channels_last_3d), flow)
    assert torch.equal(model(*layouts).logits, expected)


@every_fusion
def test_a_frozen_trunk_stays_as_it_was(fusion):
    model = build_model(fusion, freeze_trunk=True, **SIZES[fusion]).train()
    streams, labels = inputs(model, *clips(frames=16)), torch.arange(4)  # more than one token, for recurrent weights
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=1e8
    )  # random frozen stages let signals fade
    sum(model.losses(model(*streams), labels).values()).backward()
    optimizer.step()
    assert not any("_enc." in name and ".logits." not in name for name in trained)
    assert {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])} == trained


@every_fusion
def test_a_missing_stream_is_named(fusion):
    model = build_model(fusion, **SIZES[fusion])
    with pytest.raises(ValueError, match=f"this model needs {model.streams[0]}"):
        model(None, None)


@pytest.mark.parametrize(("fusion", "millions"), PARAMETERS.items())
def test_number_of_parameters_is_the_published_one_and_that_of_the_recipe(fusion, millions):
    with torch.device("meta"):
        model = build_model(fusion)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions
    recipe = (CONFIGS / f"{fusion}.yaml").read_text().partition("\n\n")[0].splitlines()  # its comment
    assert all(line.startswith("# ") for line in recipe)
    assert recipe[1].startswith(f"#   python train.py -c configs/{fusion}.yaml ")
    assert recipe[2].startswith(f"# Expect {millions:.2f} M parameters")


def test_zero_motion_becomes_zero_and_pixels_the_unit_range():
    pixels = torch.tensor([0, 127, 128, 255], dtype=torch.uint8).view(1, 1, 4, 1, 1)
    expected = torch.tensor([-1, -0.5 / 127.5, 0.5 / 127.5, 1])
    torch.testing.assert_close(to_unit_range(pixels, "flow").flatten(), expected)


@pytest.mark.parametrize("fusion", ["late", "xnorm"])
def test_the_weight_between_the_heads_worked_out_from_each_alone(fusion):
    logits = {}
    for weight in (0.0, 0.25, 1.0):
        torch.manual_seed(0)
        logits[weight] = build_model(fusion, rgb_weight=weight, **SMALL).eval()(*clips()).logits
    torch.testing.assert_close(logits[0.25], 0.25 * logits[1.0] + 0.75 * logits[0.0])
    assert not torch.allclose(logits[1.0], logits[0.0], atol=1e-3)


def test_pooled_parameters_are_the_mean_of_the_unpooled():
    model = build_model("xnorm", param_pool="global", **SMALL)
    other = torch.rand(2, model.rgb_enc.channels["Mixed_3b"], 2, 3, 3)
    mean = model.get_submodule("rgb2flow_l1")(other).mean((2, 3, 4), keepdim=True)
    torch.testing.assert_close(model.generate("rgb2flow_l1", other), mean)


def test_xnorm_with_silent_generators_is_late_fusion():
    xnorm, late = build_model("xnorm", **SMALL).eval(), build_model("late", **SMALL).eval()
    state = {name: torch.zeros_like(v) if "2" in name.split("_")[0] else v for name, v in xnorm.state_dict().items()}
    xnorm.load_state_dict(state)
    known = late.state_dict()
    late.load_state_dict({name: value for name, value in state.items() if name in known})
    streams = clips()
    torch.testing.assert_close(xnorm(*streams).logits, late(*streams).logits)


def test_exchanges_can_follow_any_stages():
    model = build_model("xnorm", exchange_after=["Conv3d_2c_3x3", "MaxPool3d_4a_3x3"], **SMALL)
    assert model(*clips()).logits.shape == (4, 8)
    assert {name.split(".")[0] for name, _ in model.named_parameters() if "2flow" in name} == {
        "rgb2flow_l1",
        "rgb2flow_l2",
    }


def test_a_subclass_adds_named_losses():
    class Regularised(FusionModel):
        def losses(self, output, labels):
            return super().losses(output, labels) | {"size": output.extra["size"]}

    output = FusionOutput(torch.zeros(2, 8), extra={"size": torch.tensor(3.0)})
    losses = Regularised(METHODS["late"]()).losses(output, torch.tensor([0, 1]))
    assert losses["size"] == 3
    torch.testing.assert_close(losses["cls"], torch.tensor(8.0).log())
