"""torchvision's networks as trunks: the same functions, any size, two flow channels, and weights from files."""

import pytest
import torch
from torchvision.models import video

from common.errors import ConfigError, UserError
from configs.methods import EXCHANGES
from configs.options import TRUNK_STAGES
from models import build_model
from models.checkpoint import load_pretrained
from models.trunks.torchvision import NETWORKS, RGB_MEAN, RGB_STD

TRUNKS = {"s3d": video.s3d, "r2plus1d_18": video.r2plus1d_18}
every_trunk = pytest.mark.parametrize("trunk", TRUNKS)


@pytest.fixture(scope="module")
def built():
    """A trunk for RGB, one for flow, and torchvision's network, by name."""
    torch.manual_seed(0)
    return {
        name: (NETWORKS[name](3, 16).eval(), NETWORKS[name](2, 16).eval(), network(weights=None).eval())
        for name, network in TRUNKS.items()
    }


def torchvision_features(network, x):
    if hasattr(network, "features"):
        return network.features(x)
    for child in (network.stem, network.layer1, network.layer2, network.layer3, network.layer4):
        x = child(x)
    return x


@every_trunk
def test_weights_from_a_file_give_torchvisions_features(trunk, built, tmp_path):
    rgb, _, network = built[trunk]
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    load_pretrained(rgb, tmp_path / "weights.pth", "rgb")
    pixels = torch.rand(1, 3, 8, 32, 32)  # in [0, 1], as torchvision's transform takes them
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (RGB_MEAN, RGB_STD))
    expected = torchvision_features(network, (pixels - mean) / std)
    torch.testing.assert_close(rgb.forward_features(2 * pixels - 1), expected, rtol=1e-4, atol=1e-4)


@every_trunk
def test_grey_frames_give_flow_what_they_give_rgb(trunk, built, tmp_path):
    _, flow, network = built[trunk]
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    load_pretrained(flow, tmp_path / "weights.pth", "flow")
    grey = torch.rand(1, 1, 8, 32, 32) * 2 - 1
    normalised = (grey / flow.std[:, :1]).expand(-1, 3, -1, -1, -1)
    expected = torchvision_features(network, normalised)
    torch.testing.assert_close(flow.forward_features(grey.expand(-1, 2, -1, -1, -1)), expected, rtol=1e-3, atol=1e-4)


@every_trunk
def test_odd_sizes_give_one_embedding_a_clip(trunk, built):
    for model, channels in zip(built[trunk], (3, 2), strict=False):
        clip = x = torch.rand(1, channels, 9, 33, 33)
        for stage in model.stages:
            x = model.forward_stage(stage, x)
            assert x.shape[1] == model.channels[stage]
        embedding = model(clip)
        torch.testing.assert_close(embedding, model.embed(x))
        assert embedding.shape == (1, 16)


@pytest.mark.parametrize(("trunk", "fusion"), [("s3d", "mult"), ("r2plus1d_18", "xnorm")])
def test_methods_train_on_every_trunk_with_one_clip(trunk, fusion):
    torch.manual_seed(0)
    model = build_model(fusion, trunk=trunk).train()
    output = model(torch.rand(1, 3, 8, 32, 32), torch.rand(1, 2, 8, 32, 32))
    sum(model.losses(output, torch.tensor([5])).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@every_trunk
def test_xnorm_exchanges_at_stages_of_its_trunk(trunk):
    with torch.device("meta"):
        model = build_model("xnorm", trunk=trunk)
    assert model.exchange_after == EXCHANGES[trunk]
    assert set(EXCHANGES[trunk]) < set(TRUNK_STAGES[trunk])
    assert model.rgb2flow_l3.in_channels == model.rgb_enc.out_channels


@every_trunk
def test_a_frozen_trunk_learns_its_embedding_alone(trunk):
    model = build_model("rgb", trunk=trunk, freeze_trunk=True).train()
    statistics = {name: value.clone() for name, value in model.rgb_enc.named_buffers()}
    model(torch.rand(2, 3, 8, 32, 32), None).logits.sum().backward()
    assert all(torch.equal(value, statistics[name]) for name, value in model.rgb_enc.named_buffers())
    assert {name for name, p in model.rgb_enc.named_parameters() if p.grad is not None} == {
        "logits.conv3d.weight",
        "logits.conv3d.bias",
    }


def test_batchnorm_momentum_is_the_configs():
    model = build_model("rgb", trunk="r2plus1d_18", batchnorm_momentum=0.2)
    momenta = {module.momentum for module in model.modules() if isinstance(module, torch.nn.BatchNorm3d)}
    assert momenta == {0.2}


def test_missing_and_wrong_weights_say_where_to_get_them(tmp_path, built):
    with pytest.raises(ConfigError, match=r"none\.pt: no such file.*r2plus1d_18-91a641e6\.pth"):
        build_model("rgb", trunk="r2plus1d_18", pretrained={"rgb": "none.pt"})
    torch.save(built["s3d"][2].state_dict(), tmp_path / "s3d.pth")
    with pytest.raises(UserError, match=r"s3d\.pth: does not fit this model: .*missing"):
        load_pretrained(built["r2plus1d_18"][0], tmp_path / "s3d.pth", "rgb")


@every_trunk
def test_a_trunk_can_lie_channels_last(trunk, built):
    rgb, flow, _ = built[trunk]
    for model in (rgb, flow):
        model.to(memory_format=torch.channels_last_3d)
