"""Low-rank fusion (Liu et al., 2018): tensor fusion whose weights are a sum of products, never formed."""

import torch
from torch import Tensor, nn

from configs.methods import LmfOptions
from models.fusion import FusionModel, FusionOutput
from models.heads import ClassificationHead
from models.trunks.build import build_trunk


class LowRankFusion(FusionModel):
    """Low-rank Multimodal Fusion (LMF, ACL 2018), its equation 8: h = sum_i a_i (U_i [r; 1]) * (V_i [f; 1]) + b.

    r and f are the embeddings, i runs to `rank`, * is by element. It is a linear map of tensor fusion's outer product
    whose weights have that rank.

    Where this is not the paper's:

    - Two streams for three.
    - h has `hidden_size` features and goes into the head that all methods here have; in the paper it is the output.
    - U and V start with Xavier's normal values, a with such values too and b with 0, as in the authors' code.
    """

    options: LmfOptions

    def __init__(self, options: LmfOptions) -> None:
        super().__init__(options)
        size = options.hidden_size
        self.rgb_enc = build_trunk("rgb", options)
        self.flow_enc = build_trunk("flow", options)
        self.rgb_factor = nn.Parameter(nn.init.xavier_normal_(torch.empty(options.rank, size + 1, size)))
        self.flow_factor = nn.Parameter(nn.init.xavier_normal_(torch.empty(options.rank, size + 1, size)))
        self.fusion_weights = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, options.rank)))
        self.fusion_bias = nn.Parameter(torch.zeros(size))
        self.out = ClassificationHead(size, size, options.num_classes, options.dropout)

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W]."""
        return FusionOutput(self.out(self.fuse(self.rgb_enc(rgb), self.flow_enc(flow))))

    def fuse(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """Fuse embeddings, both [B, hidden_size], into [B, hidden_size]."""
        one = rgb.new_ones(rgb.shape[0], 1)
        products = (torch.cat([rgb, one], dim=1) @ self.rgb_factor) * (torch.cat([flow, one], dim=1) @ self.flow_factor)
        return torch.einsum("r,rbh->bh", self.fusion_weights[0], products) + self.fusion_bias
