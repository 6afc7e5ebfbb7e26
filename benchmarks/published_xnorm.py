"""X-Norm written the published way, to measure the project's form against; one state dict loads into both.

Every convolution and every pooling pads by a copy, of nothing where nothing is to be padded; statistics are spread over
the whole map by `repeat`; an exchange holds four full maps: mean, deviation, scale and shift.
"""

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from models.fusion import FusionOutput
from models.heads import ClassificationHead
from models.trunks.i3d import CONVOLUTIONS, INCEPTIONS, POOLS

STAGES = (
    *("Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "MaxPool3d_3a_3x3"),
    *("Mixed_3b", "Mixed_3c", "MaxPool3d_4a_3x3", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"),
    *("MaxPool3d_5a_2x2", "Mixed_5b", "Mixed_5c"),
)
EXCHANGES = {"Mixed_3b": "l1", "Mixed_4d": "l2", "Mixed_5c": "l3"}


def padded_copy(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Write TensorFlow's 'SAME' zeros around T, H and W of x [B, C, T, H, W]; a copy even where there are none."""
    amounts: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max(k - (size % s or s), 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts)


class PaddedConv3d(nn.Conv3d):
    """A 3D convolution whose input is padded by a copy."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in, T, H, W] to [B, out, T', H', W']."""
        return super().forward(padded_copy(x, self.kernel_size, self.stride))


class PaddedMaxPool3d(nn.Module):
    """Max pooling whose input is padded by a copy."""

    def __init__(self, kernel_size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, T, H, W] to [B, C, T', H', W']."""
        return F.max_pool3d(padded_copy(x, self.kernel_size, self.stride), self.kernel_size, self.stride)


class Unit(nn.Module):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = PaddedConv3d(channels, out_channels, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=0.001, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in, T, H, W] to [B, out, T', H', W']."""
        return F.relu(self.bn(self.conv3d(x)))


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, channels: int, branches: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = Unit(channels, branches[0])
        self.b1a, self.b1b = Unit(channels, branches[1]), Unit(branches[1], branches[2], 3)
        self.b2a, self.b2b = Unit(channels, branches[3]), Unit(branches[3], branches[4], 3)
        self.b3a, self.b3b = PaddedMaxPool3d((3, 3, 3), (1, 1, 1)), Unit(channels, branches[5])

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in, T, H, W] to [B, out, T, H, W]."""
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], dim=1)


class Projection(nn.Module):
    """A linear map of the channels."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv3d = PaddedConv3d(channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in, T, H, W] to [B, out, T, H, W]."""
        result: Tensor = self.conv3d(x)
        return result


class Trunk(nn.Module):
    """I3D for one stream."""

    def __init__(self, channels: int, hidden_size: int, dropout: float, window: tuple[int, int, int]) -> None:
        super().__init__()
        self.channels: dict[str, int] = {}
        for name in STAGES:
            stage: nn.Module
            if name in POOLS:
                kernel, stride = POOLS[name]
                stage = PaddedMaxPool3d(kernel, stride)
            elif name in CONVOLUTIONS:
                width, size, step = CONVOLUTIONS[name]
                stage, channels = Unit(channels, width, size, step), width
            else:
                branches = INCEPTIONS[name]
                stage, channels = Inception(channels, branches), sum(branches[position] for position in (0, 2, 4, 5))
            self.add_module(name, stage)
            self.channels[name] = channels
        self.avg_pool = nn.AvgPool3d(window, stride=(1, 1, 1))
        self.dropout = nn.Dropout(dropout)
        self.logits = Projection(channels, hidden_size)

    def embed(self, x: Tensor) -> Tensor:
        """Map the last stage's features to [B, hidden_size]."""
        embedding: Tensor = self.logits(self.dropout(self.avg_pool(x)))
        return embedding.squeeze(4).squeeze(3).squeeze(2)


def exchange(x: Tensor, parameters: Tensor) -> Tensor:
    """Normalise x [B, C, T, H, W], then scale and shift it by parameters [B, 2 C, T, H, W]."""
    shift, scale = torch.chunk(parameters, 2, dim=1)
    mean = torch.mean(x, [1, 2, 3, 4], True).repeat(1, *x.shape[1:])
    std = torch.std(x, [1, 2, 3, 4], keepdim=True).add(1e-8).repeat(1, *x.shape[1:])
    return x + ((x - mean) / std) * scale + shift


class PublishedXNorm(nn.Module):
    """Two trunks that exchange normalisation parameters after three stages.

    `window` is what is left of time and space in the end: 2 x 7 x 7 of 16 x 224 x 224.
    """

    def __init__(
        self,
        num_classes: int = 8,
        hidden_size: int = 128,
        dropout: float = 0.1,
        window: tuple[int, int, int] = (2, 7, 7),
    ) -> None:
        super().__init__()
        self.exchange = exchange
        self.rgb_enc, self.flow_enc = (Trunk(channels, hidden_size, dropout, window) for channels in (3, 2))
        head = (hidden_size, hidden_size, num_classes, dropout)
        self.rgb_out, self.flow_out = ClassificationHead(*head), ClassificationHead(*head)
        for stage, name in EXCHANGES.items():
            channels = self.rgb_enc.channels[stage]
            self.add_module(f"rgb2flow_{name}", nn.Conv3d(channels, 2 * channels, kernel_size=1))
            self.add_module(f"flow2rgb_{name}", nn.Conv3d(channels, 2 * channels, kernel_size=1))

    def forward(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W], floats in [-1, 1]."""
        for stage in STAGES:
            rgb, flow = self.rgb_enc.get_submodule(stage)(rgb), self.flow_enc.get_submodule(stage)(flow)
            if stage in EXCHANGES:
                to_rgb = self.get_submodule(f"rgb2flow_{EXCHANGES[stage]}")(flow)
                to_flow = self.get_submodule(f"flow2rgb_{EXCHANGES[stage]}")(rgb)
                rgb, flow = self.exchange(rgb, to_rgb), self.exchange(flow, to_flow)
        rgb_logits = self.rgb_out(self.rgb_enc.embed(rgb))
        return FusionOutput(0.5 * rgb_logits + 0.5 * self.flow_out(self.flow_enc.embed(flow)))
