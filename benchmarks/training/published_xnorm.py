"""X-Norm computed the published way, to measure the project's form against: the same modules with other forwards.

Every convolution and every pooling pads by a copy, of nothing where nothing is to be padded; statistics are spread over
the whole map by `repeat`; an exchange holds four full maps: mean, deviation, scale and shift.
"""

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from models import build_model
from models.methods.xnorm import XNorm
from models.trunks.i3d import SameConv3d, SameMaxPool3d, Unit
from models.trunks.trunk import BatchNorm3d, PointwiseConv3d

CLASSES = 8


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


class PaddedMaxPool3d(SameMaxPool3d):
    """Max pooling whose input is padded by a copy."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, T, H, W] to [B, C, T', H', W']."""
        return F.max_pool3d(padded_copy(x, self.kernel, self.stride), self.kernel, self.stride)


class CopyingUnit(Unit):
    """Convolution, BatchNorm, and a ReLU whose output is another map."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in, T, H, W] to [B, out, T', H', W']."""
        return F.relu(self.bn(self.conv3d(x)))


class RepeatingXNorm(XNorm):
    """X-Norm whose exchanges spread their statistics by `repeat`."""

    def exchange(self, position: int, rgb: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Let the features after an exchanging stage, both [B, C, T, H, W], change each other."""
        to_rgb = self.generate(f"rgb2flow_l{position}", flow)
        to_flow = self.generate(f"flow2rgb_l{position}", rgb)
        return repeating_exchange(rgb, to_rgb), repeating_exchange(flow, to_flow)


def repeating_exchange(x: Tensor, parameters: Tensor) -> Tensor:
    """Normalise x [B, C, T, H, W], then scale and shift it by parameters [B, 2 C, T, H, W]."""
    shift, scale = torch.chunk(parameters, 2, dim=1)
    mean = torch.mean(x, [1, 2, 3, 4], True).repeat(1, *x.shape[1:])
    std = torch.std(x, [1, 2, 3, 4], keepdim=True).add(1e-8).repeat(1, *x.shape[1:])
    return x + ((x - mean) / std) * scale + shift


PLAIN: dict[type, type] = {PointwiseConv3d: SameConv3d, BatchNorm3d: nn.BatchNorm3d}
PADDED: dict[type, type] = {SameConv3d: PaddedConv3d, SameMaxPool3d: PaddedMaxPool3d, Unit: CopyingUnit}


def published_xnorm(*, pads: bool = True, repeats: bool = True, width: float = 1.0) -> nn.Module:
    """X-Norm with torch's own kernels; `pads` by copies as published, `repeats` statistics as published."""
    model = build_model("xnorm", num_classes=CLASSES, width=width)
    _compute_as(PLAIN, model)
    for stream in ("rgb", "flow") if pads else ():
        _compute_as(PADDED, model.get_submodule(f"{stream}_enc"))
    if repeats:
        model.__class__ = RepeatingXNorm
    return model


def _compute_as(forms: dict[type, type], model: nn.Module) -> None:
    for module in model.modules():
        module.__class__ = forms.get(type(module), type(module))  # the attributes are the same
