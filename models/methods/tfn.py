"""Tensor fusion (Zadeh et al., 2017): the outer product of both embeddings into one head."""

import torch
from torch import Tensor

from configs.methods import TfnOptions
from models.fusion import FusionModel, FusionOutput
from models.heads import ClassificationHead
from models.trunks.build import build_trunk


class TensorFusion(FusionModel):
    """Tensor Fusion Network (TFN, EMNLP 2017), its section 4.2: z = [r; 1] (x) [f; 1], for embeddings r and f.

    The constant 1 keeps r and f themselves beside their products, so z holds both streams alone and each pair of
    their features.

    Where this is not the paper's:

    - Two streams, so a matrix of products and not a cube.
    - Both embeddings have `hidden_size` features, and are the linear ones that all methods here have, for the same
      trunk. (The paper has 128 for language, which is read by an LSTM, and 32 for the others.)
    - The head is the one of all methods here, two layers of `hidden_size` with tanh, where the paper has two of 128
      with ReLU: what differs between methods is to be the fusion.
    """

    def __init__(self, options: TfnOptions) -> None:
        super().__init__(options)
        size = options.hidden_size
        self.rgb_enc = build_trunk("rgb", options)
        self.flow_enc = build_trunk("flow", options)
        self.out = ClassificationHead((size + 1) ** 2, size, options.num_classes, options.dropout)

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W]."""
        return FusionOutput(self.out(tensor_fusion(self.rgb_enc(rgb), self.flow_enc(flow))))


def tensor_fusion(rgb: Tensor, flow: Tensor) -> Tensor:
    """Multiply each of [rgb; 1] with each of [flow; 1], embeddings [B, R] and [B, F]: [B, (R + 1) (F + 1)]."""
    one = rgb.new_ones(rgb.shape[0], 1)
    outer = torch.cat([rgb, one], dim=1)[:, :, None] * torch.cat([flow, one], dim=1)[:, None, :]
    return outer.flatten(1)
