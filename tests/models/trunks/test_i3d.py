"""I3D: padding without copies equals padding with copies, sizes, channels, and layouts."""

import pytest
import torch
import torch.nn.functional as F

from models.methods.xnorm import expect_negative_values
from models.trunks.i3d import I3D, POOLS, SameConv3d, SameMaxPool3d, same_padding
from models.trunks.trunk import PointwiseConv3d


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    return I3D(3, 16, width=0.1).eval()


def test_same_padding_puts_the_odd_zero_behind():
    # 224 with kernel 7, stride 2: 112 windows reach over 111 * 2 + 7 = 229 = 224 + 5
    assert same_padding([224], [7], [2]) == ([2], [3])
    assert same_padding([113], [3], [2]) == ([1], [1])
    assert same_padding([8], [3], [1]) == ([1], [1])
    assert same_padding([8], [2], [2]) == ([0], [0])


@pytest.mark.parametrize(("kernel", "stride"), [*POOLS.values(), ((3, 3, 3), (1, 1, 1))])
def test_pooling_equals_pooling_of_zero_padded_features(kernel, stride):
    torch.manual_seed(0)
    for size in range(1, 14):
        x = torch.randn(2, 3, size, size + 1, 2 * size)
        front, back = same_padding(x.shape[2:], kernel, stride)
        amounts = [front[2], back[2], front[1], back[1], front[0], back[0]]
        signed = F.max_pool3d(F.pad(x, amounts), kernel, stride)
        positive = F.max_pool3d(F.pad(x.relu(), amounts), kernel, stride)
        torch.testing.assert_close(SameMaxPool3d(kernel, stride, signed_input=True)(x), signed, rtol=0, atol=0)
        torch.testing.assert_close(SameMaxPool3d(kernel, stride)(x.relu()), positive, rtol=0, atol=0)


def test_strided_convolution_starts_where_same_padding_says():
    convolution = SameConv3d(1, 1, 7, 2, bias=False)
    torch.nn.init.ones_(convolution.weight)
    ones = torch.ones(1, 1, 8, 8, 8)
    # windows start at -2, 0, 2, 4 on each axis and hold 5, 7, 6, 4 of the 8 ones
    counts = torch.tensor([5.0, 7, 6, 4])
    expected = counts[:, None, None] * counts[:, None] * counts
    torch.testing.assert_close(convolution(ones)[0, 0], expected)


@pytest.mark.parametrize(("frames", "size"), [(8, 32), (9, 33), (16, 112), (21, 50)])
def test_any_size_gives_one_embedding_a_clip(trunk, frames, size):
    assert trunk(torch.rand(1, 3, frames, size, size)).shape == (1, 16)


def test_features_are_the_stages_in_a_row(trunk):
    clip = x = torch.rand(1, 3, 16, 64, 64)
    for stage in trunk.stages:
        x = trunk.forward_stage(stage, x)
        assert x.shape[1] == trunk.channels[stage]
    torch.testing.assert_close(trunk.forward_features(clip), x)
    assert x.shape[2:] == (2, 2, 2)


def test_width_one_has_the_published_channels():
    with torch.device("meta"):
        channels = I3D(3, 128).channels
    assert [channels[stage] for stage in ("Conv3d_1a_7x7", "Mixed_3b", "Mixed_4d", "Mixed_5c")] == [64, 256, 512, 1024]


@pytest.mark.parametrize("size", [32, 33])
def test_channels_stay_last_from_stage_to_stage(size):
    """A stage that rearranged them would slow all that follow down."""
    layout = torch.channels_last_3d
    trunk = I3D(2, 16, width=0.1).to(memory_format=layout)
    expect_negative_values(trunk, ("Mixed_3b", "MaxPool3d_2a_3x3"))
    x = torch.rand(2, 2, 16, size, size).to(memory_format=layout)
    for stage in trunk.stages[:-3]:  # the last are 1 x 1 in space, where all layouts are one
        x = trunk.forward_stage(stage, x)
        assert x.is_contiguous(memory_format=layout), stage
        assert not x.is_contiguous()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_a_pointwise_convolution_is_torchs_convolution(layout):
    plain = torch.nn.Conv3d(5, 7, kernel_size=1).double()
    ours = PointwiseConv3d(5, 7).double()
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(2, 5, 3, 4, 6, dtype=torch.double).to(memory_format=layout).requires_grad_()
    for one, other in zip(*(gradients(module, x) for module in (plain, ours)), strict=True):
        torch.testing.assert_close(one, other)


def gradients(convolution, x):
    output = convolution(x)
    leaves = [x, *convolution.parameters()]
    return [output, *torch.autograd.grad(output.square().sum(), leaves)]


def test_one_value_a_channel_leaves_the_running_statistics_alone():
    trunk = I3D(3, 16, width=0.1).train()
    trunk(torch.rand(1, 3, 8, 32, 32))
    assert torch.equal(trunk.Mixed_5c.b0.bn.running_var, torch.ones_like(trunk.Mixed_5c.b0.bn.running_var))
    assert not torch.equal(trunk.Mixed_3b.b0.bn.running_mean, torch.zeros_like(trunk.Mixed_3b.b0.bn.running_mean))
