"""I3D, stage by stage, with the parameter names of the published weights.

TensorFlow's 'SAME' padding is had without copies wherever it can be.
'SAME' puts `kernel - stride` (or `kernel - size % stride`) zeros around an axis, the odd one after. Where that is
symmetric, the convolution or the pooling pads by itself. Where it is not:

- The first convolution alone is strided; its input (3 or 2 channels, no gradient) is padded by one at the end.
- Pooling leaves the zero at the end to `ceil_mode`, whose last window just ends early. A window over zeros and a window
  that ignores them agree, for its values come from a ReLU: they are >= 0, and every window holds at least one.
  That fails where a method put negative values between the stages (`signed_input`): there, zeros are written.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from configs.options import I3D_STAGES
from models.trunks.trunk import BatchNorm3d, PointwiseConv3d, Projection, Trunk

Triple = tuple[int, int, int]
KINETICS_CLASSES = 400

# name: (channels, kernel, stride), the same on all axes
CONVOLUTIONS = {"Conv3d_1a_7x7": (64, 7, 2), "Conv3d_2b_1x1": (64, 1, 1), "Conv3d_2c_3x3": (192, 3, 1)}
# name: (kernel, stride), over T, H, W
POOLS: dict[str, tuple[Triple, Triple]] = {
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
# name: channels of b0, b1a, b1b, b2a, b2b, b3b
INCEPTIONS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


def same_padding(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> tuple[list[int], list[int]]:
    """How many zeros 'SAME' puts before and after each axis."""
    total = [max(k - (size % s or s), 0) for size, k, s in zip(sizes, kernel, stride, strict=True)]
    front = [zeros // 2 for zeros in total]
    return front, [zeros - before for zeros, before in zip(total, front, strict=True)]


def pad(x: Tensor, front: Sequence[int], back: Sequence[int]) -> Tensor:
    """Write zeros around T, H and W of x [B, C, T, H, W]; a copy, so only where it cannot be had for free."""
    amounts = [amount for pair in zip(reversed(front), reversed(back), strict=True) for amount in pair]
    return F.pad(x, amounts) if any(amounts) else x


class SameConv3d(nn.Conv3d):
    """A 3D convolution with 'SAME' padding."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in, T, H, W] to [B, out, ceil(T / stride), ceil(H / stride), ceil(W / stride)]."""
        front, back = same_padding(x.shape[2:], self.kernel_size, self.stride)
        x = pad(x, (0, 0, 0), [behind - before for before, behind in zip(front, back, strict=True)])
        return F.conv3d(x, self.weight, self.bias, self.stride, tuple(front))


class SameMaxPool3d(nn.Module):
    """Max pooling with 'SAME' padding by zeros; `signed_input` says that its input may be negative."""

    def __init__(self, kernel: Triple, stride: Triple, signed_input: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride, self.signed_input = kernel, stride, signed_input

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, T, H, W] to [B, C, ceil(T / stride), ceil(H / stride), ceil(W / stride)]."""
        front, back = same_padding(x.shape[2:], self.kernel, self.stride)
        if self.signed_input:
            return F.max_pool3d(pad(x, front, back), self.kernel, self.stride)
        return F.max_pool3d(x, self.kernel, self.stride, tuple(front), ceil_mode=True)


class Unit(nn.Module):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, momentum: float) -> None:
        super().__init__()
        self.conv3d = (
            PointwiseConv3d(channels, out_channels, bias=False)
            if kernel == stride == 1
            else SameConv3d(channels, out_channels, kernel, stride, bias=False)
        )
        self.bn = BatchNorm3d(out_channels, eps=1e-3, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in, T, H, W] to [B, out, T', H', W'], >= 0."""
        return F.relu(self.bn(self.conv3d(x)), inplace=True)


class Inception(nn.Module):
    """Four branches side by side: 1x1x1, two of 1x1x1 then 3x3x3, and pooling then 1x1x1."""

    def __init__(self, channels: int, branches: Sequence[int], momentum: float) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = branches
        self.b0 = Unit(channels, b0, 1, 1, momentum)
        self.b1a = Unit(channels, b1a, 1, 1, momentum)
        self.b1b = Unit(b1a, b1b, 3, 1, momentum)
        self.b2a = Unit(channels, b2a, 1, 1, momentum)
        self.b2b = Unit(b2a, b2b, 3, 1, momentum)
        self.b3a = SameMaxPool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit(channels, b3b, 1, 1, momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in, T, H, W] to [B, b0 + b1b + b2b + b3b, T, H, W]."""
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], dim=1)


class I3D(Trunk):
    """I3D (Carreira and Zisserman, CVPR 2017): 16 stages, then the mean over time and space, mapped to an embedding.

    At 16 x 224 x 224 this is the published network. At other sizes it averages what is left of time and space, where
    the published one, with its window of 2 x 7 x 7, would give several predictions or fail. The last stage's features
    are [B, C, ceil(T / 8), ceil(H / 32), ceil(W / 32)].
    """

    stages = I3D_STAGES
    classifier_prefix = "logits."

    def __init__(
        self,
        in_channels: int,
        embedding_size: int | None,
        dropout: float = 0.0,
        width: float = 1.0,
        batchnorm_momentum: float = 0.01,
    ) -> None:
        """Build the trunk.

        Args:
            in_channels: 3 for RGB, 2 for flow.
            embedding_size: None for a method that takes the last stage's features. It gets the layer of 400 Kinetics
                classes that published state dicts have there, which is neither used nor trained.
            dropout: of features before the map to the embedding.
            width: channels as a multiple of the published.
            batchnorm_momentum: share of each batch in BatchNorm's running statistics.
        """
        super().__init__()
        channels = in_channels
        for name in self.stages:
            stage, channels = _stage(name, channels, width, batchnorm_momentum)
            self.add_module(name, stage)
            self.channels[name] = channels
        self.dropout = nn.Dropout(dropout)
        self.logits = Projection(channels, KINETICS_CLASSES if embedding_size is None else embedding_size)
        if embedding_size is None:
            self.logits.requires_grad_(False)


def _stage(name: str, channels: int, width: float, momentum: float) -> tuple[nn.Module, int]:
    """Build a stage and say how many channels it puts out."""
    if name in POOLS:
        return SameMaxPool3d(*POOLS[name]), channels
    if name in CONVOLUTIONS:
        out_channels, kernel, stride = CONVOLUTIONS[name]
        out_channels = _scaled(out_channels, width)
        return Unit(channels, out_channels, kernel, stride, momentum), out_channels
    branches = [_scaled(branch, width) for branch in INCEPTIONS[name]]
    return Inception(channels, branches, momentum), branches[0] + branches[2] + branches[4] + branches[5]


def _scaled(channels: int, width: float) -> int:
    return max(4, round(channels * width))
