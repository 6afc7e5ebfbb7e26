"""X-Norm (Yin, Xu, Zu and Soleymani, ICMI 2022): two trunks that exchange normalisation parameters on their way."""

from collections.abc import Collection
from itertools import pairwise

import torch
from torch import Tensor

from configs.methods import XNormOptions
from models.fusion import FusionOutput
from models.methods.late import LateFusion
from models.trunks.i3d import SameMaxPool3d
from models.trunks.trunk import PointwiseConv3d, Trunk

EPSILON = 1e-8  # of the published code; in fp16 it would be 0


def norm_exchange(features: Tensor, parameters: Tensor) -> Tensor:
    """Add to `features` their normalised form, scaled and shifted; the order of the operations is the published code's.

    Args:
        features: x [B, C, T, H, W]; mean and unbiased standard deviation are those of each clip's whole map.
        parameters: shift and scale, [B, 2 C, T, H, W], or [B, 2 C, 1, 1, 1] for the same at all places.

    Returns:
        x + (x - mean) / (std + epsilon) * scale + shift, [B, C, T, H, W]; computed in fp32, under autocast too, which
        leaves the operations used here in the precision of their inputs.
    """
    x = features.to(torch.promote_types(features.dtype, torch.float32))
    shift, scale = parameters.to(x.dtype).chunk(2, dim=1)
    mean = x.mean(dim=(1, 2, 3, 4), keepdim=True)  # [B, 1, 1, 1, 1]
    std = x.std(dim=(1, 2, 3, 4), keepdim=True)
    return (x + (x - mean) / (std + EPSILON) * scale + shift).to(features.dtype)


def expect_negative_values(trunk: Trunk, exchanges: Collection[str]) -> None:
    """Let the pools that read exchanged features count the zeros around them, as they would not for a ReLU's output."""
    for stage, following in pairwise(trunk.stages):
        for pool in trunk.stage(following).modules() if stage in exchanges else ():
            if isinstance(pool, SameMaxPool3d):
                pool.signed_input = True


class XNorm(LateFusion):
    """Late fusion whose trunks meet after some stages, each taking scale and shift from the other there.

    The generators keep their published names, which read the wrong way round: `rgb2flow_l1` reads flow's features
    and makes the parameters for RGB after the first of `exchange_after`.
    """

    def __init__(self, options: XNormOptions) -> None:
        super().__init__(options)
        self.exchange_after = options.exchange_after
        self.sequential = options.exchange_order == "sequential"
        self.pooled = options.param_pool == "global"
        for position, stage in enumerate(options.exchange_after, start=1):
            channels = self.rgb_enc.channels[stage]
            self.add_module(f"rgb2flow_l{position}", PointwiseConv3d(channels, 2 * channels))
            self.add_module(f"flow2rgb_l{position}", PointwiseConv3d(channels, 2 * channels))

        for trunk in (self.rgb_enc, self.flow_enc):
            expect_negative_values(trunk, options.exchange_after)

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W]."""
        for stage in self.rgb_enc.stages:
            rgb, flow = self.rgb_enc.forward_stage(stage, rgb), self.flow_enc.forward_stage(stage, flow)
            if stage in self.exchange_after:
                rgb, flow = self.exchange(self.exchange_after.index(stage) + 1, rgb, flow)
        return self.blend(self.rgb_enc.embed(rgb), self.flow_enc.embed(flow))

    def exchange(self, position: int, rgb: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Let the features after the `position`-th exchanging stage, both [B, C, T, H, W], change each other."""
        exchanged = norm_exchange(rgb, self.generate(f"rgb2flow_l{position}", flow))
        source = exchanged if self.sequential else rgb
        return exchanged, norm_exchange(flow, self.generate(f"flow2rgb_l{position}", source))

    def generate(self, generator: str, other: Tensor) -> Tensor:
        """Make shift and scale from the other stream: [B, 2 C, T, H, W], or [B, 2 C, 1, 1, 1] where pooled."""
        if self.pooled:  # the mean of a linear map is the map of the mean, which is the cheaper one
            other = other.mean(dim=(2, 3, 4), keepdim=True)
        parameters: Tensor = self.get_submodule(generator)(other)
        return parameters
