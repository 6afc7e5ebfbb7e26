"""MulT (Tsai et al., 2019): each stream's tokens attend to the other's."""

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from configs.methods import MultOptions
from models.fusion import FusionModel, FusionOutput
from models.transformer import Transformer
from models.trunk import build_trunk


class MulT(FusionModel):
    """Multimodal Transformer (MulT, ACL 2019): cross-modal transformers, then one over each stream's result.

    Flow's tokens are what RGB's attend to in `trans_1_with_2`, and the other way round in `trans_2_with_1`; the memory
    transformers `trans_1_mem` and `trans_2_mem` attend within the result. The last tokens of both, which have seen all
    others, go through a residual block to the logits.

    Where this is not the paper's or the published code's:

    - Two streams instead of three, so one cross-modal transformer a stream instead of two. Their sequences are the
      tokens of the trunk's last stage (98 at 16 x 224 x 224, by time, row, column), mapped by a convolution over one
      token: this is the same input that all methods here have, and in it neighbours in the row are none in time.
    - The summary is the last token, as with MulT's authors. The published code takes token 0 under the same mask,
      which has seen token 0 alone, so 97 of 98 tokens cannot matter.
    - Positions are counted for all tokens. MulT's code leaves them out where a token's first feature is exactly 0,
      to recognise padding; here is none.
    - Keys and values of a cross-modal transformer drop the same features of the other stream, not each its own.
    - The trunk learns, unless `freeze_trunk` says otherwise; the published code freezes it for MISA and MulT alone.
    - `rgb_enc.logits` and `flow_enc.logits` (0.82 M of the parameters, with the trunk i3d) are the published code's
      Kinetics classes, there so that its state dicts load; they are neither used nor trained.
    """

    options: MultOptions

    def __init__(self, options: MultOptions) -> None:
        super().__init__(options)
        size = options.attention_size
        self.rgb_enc = build_trunk("rgb", options, embeds=False)
        self.flow_enc = build_trunk("flow", options, embeds=False)
        self.proj_1 = nn.Conv1d(self.rgb_enc.out_channels, size, kernel_size=1, bias=False)
        self.proj_2 = nn.Conv1d(self.flow_enc.out_channels, size, kernel_size=1, bias=False)
        self.trans_1_with_2 = Transformer(options)
        self.trans_2_with_1 = Transformer(options)
        self.trans_1_mem = Transformer(options)
        self.trans_2_mem = Transformer(options)
        self.proj1 = nn.Linear(2 * size, 2 * size)
        self.proj2 = nn.Linear(2 * size, 2 * size)
        self.out_layer = nn.Linear(2 * size, options.num_classes)

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W]."""
        features = self.rgb_enc.forward_features(rgb), self.flow_enc.forward_features(flow)
        rgb_tokens = self.proj_1(features[0].flatten(2)).transpose(1, 2)  # [B, tokens, attention_size]
        flow_tokens = self.proj_2(features[1].flatten(2)).transpose(1, 2)
        rgb_summary = self.trans_1_mem(self.trans_1_with_2(rgb_tokens, flow_tokens))[:, -1]
        flow_summary = self.trans_2_mem(self.trans_2_with_1(flow_tokens, rgb_tokens))[:, -1]
        summary = torch.cat([rgb_summary, flow_summary], dim=1)  # [B, 2 attention_size]
        return FusionOutput(self.out_layer(summary + self.proj2(F.relu(self.proj1(summary)))))
