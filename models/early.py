"""Early fusion: the embeddings of both streams side by side, into one head."""

import torch
from torch import Tensor

from configs.methods import CommonOptions
from models.fusion import FusionModel, FusionOutput
from models.heads import ClassificationHead
from models.trunks.build import build_trunk


class EarlyFusion(FusionModel):
    """Logits from both streams' embeddings, concatenated."""

    def __init__(self, options: CommonOptions) -> None:
        super().__init__(options)
        self.rgb_enc = build_trunk("rgb", options)
        self.flow_enc = build_trunk("flow", options)
        self.out = ClassificationHead(
            2 * options.hidden_size, options.hidden_size, options.num_classes, options.dropout
        )

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W]."""
        embeddings = torch.cat([self.rgb_enc(rgb), self.flow_enc(flow)], dim=1)  # [B, 2 hidden_size]
        return FusionOutput(self.out(embeddings))
