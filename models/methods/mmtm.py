"""MMTM (Joze, Shaban, Iuzzolino and Koishida, CVPR 2020): two trunks that gate each other's channels on their way."""

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from configs.methods import MmtmOptions
from models.fusion import FusionOutput
from models.methods.late import LateFusion


class Gate(nn.Module):
    """The multimodal transfer module, the paper's equations 2 to 5.

    z = relu(W [GAP x; GAP y] + b),  x' = x * 2 sigmoid(W_x z + b_x),  y' = y * 2 sigmoid(W_y z + b_y)

    GAP is the mean over time and space; z has twice the channels of both over `ratio`, as in the authors' code.
    """

    def __init__(self, rgb_channels: int, flow_channels: int, ratio: float) -> None:
        super().__init__()
        joint = max(1, int(2 * (rgb_channels + flow_channels) / ratio))
        self.squeeze = nn.Linear(rgb_channels + flow_channels, joint)
        self.rgb = nn.Linear(joint, rgb_channels)
        self.flow = nn.Linear(joint, flow_channels)

    def forward(self, rgb: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Gate the channels of rgb [B, C, T, H, W] and flow [B, D, T, H, W] by what both hold."""
        joint = F.relu(self.squeeze(torch.cat([rgb.mean(dim=(2, 3, 4)), flow.mean(dim=(2, 3, 4))], dim=1)))
        gates = (2 * torch.sigmoid(excite(joint))[:, :, None, None, None] for excite in (self.rgb, self.flow))
        rgb_gate, flow_gate = gates
        return rgb * rgb_gate, flow * flow_gate


class Mmtm(LateFusion):
    """Late fusion whose trunks gate each other's channels after some stages (MMTM, CVPR 2020).

    Where this is not the paper's:

    - Both trunks are the ones that all methods here have, and the gates stand after X-Norm's stages, so that the two
      differ by the exchange alone: a gate against a normalisation, pooled against per position. With a ratio of 4 the
      gates have 5,510,400 weights, X-Norm's generators 5,512,192.
    - The heads' logits are averaged, as in late fusion.
    """

    options: MmtmOptions

    def __init__(self, options: MmtmOptions) -> None:
        super().__init__(options)
        channels = self.rgb_enc.channels, self.flow_enc.channels
        self.gates = nn.ModuleDict(
            {
                stage: Gate(channels[0][stage], channels[1][stage], options.squeeze_ratio)
                for stage in options.exchange_after
            }
        )

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W]."""
        for stage in self.rgb_enc.stages:
            rgb, flow = self.rgb_enc.forward_stage(stage, rgb), self.flow_enc.forward_stage(stage, flow)
            if stage in self.gates:
                rgb, flow = self.gates[stage](rgb, flow)
        return self.blend(self.rgb_enc.embed(rgb), self.flow_enc.embed(flow))
