"""MulT (Tsai et al., 2019): each stream's tokens attend to the other's."""

import math

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from configs.methods import MultOptions
from models.fusion import FusionModel, FusionOutput
from models.trunks.build import build_trunk


class Layer(nn.Module):
    """Attention and two linear layers, each normalised before and added to its input."""

    def __init__(self, options: MultOptions) -> None:
        super().__init__()
        size = options.attention_size
        self.dropout = nn.Dropout(options.dropout)
        self.self_attn = nn.MultiheadAttention(size, options.attention_heads, options.dropout, batch_first=True)
        nn.init.xavier_uniform_(self.self_attn.out_proj.weight)
        self.fc1 = _linear(size, 4 * size)
        self.fc2 = _linear(4 * size, size)
        self.layer_norms = nn.ModuleList([nn.LayerNorm(size), nn.LayerNorm(size)])

    def forward(self, x: Tensor, memory: Tensor | None) -> Tensor:
        """Map tokens x [B, L, size] to [B, L, size]; they attend to `memory`, or to themselves where it is None."""
        query = self.layer_norms[0](x)
        keys = query if memory is None else self.layer_norms[0](memory)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], x.device, query.dtype)
        attended, _ = self.self_attn(query, keys, keys, attn_mask=mask, need_weights=False, is_causal=True)
        x = x + self.dropout(attended)
        hidden = self.dropout(F.relu(self.fc1(self.layer_norms[1](x))))
        result: Tensor = x + self.dropout(self.fc2(hidden))
        return result


class Transformer(nn.Module):
    """Positions added to the tokens, layers in a row, and a last normalisation."""

    def __init__(self, options: MultOptions) -> None:
        super().__init__()
        self.scale = math.sqrt(options.attention_size)
        self.dropout = nn.Dropout(options.embed_dropout)
        self.layers = nn.ModuleList([Layer(options) for _ in range(options.attention_layers)])
        self.layer_norm = nn.LayerNorm(options.attention_size)

    def forward(self, tokens: Tensor, memory: Tensor | None = None) -> Tensor:
        """Map tokens [B, L, size] to [B, L, size]; each layer attends to the same `memory` [B, L, size], if given."""
        x = self.add_positions(tokens)
        placed = None if memory is None else self.add_positions(memory)
        for layer in self.layers:
            x = layer(x, placed)
        result: Tensor = self.layer_norm(x)
        return result

    def add_positions(self, tokens: Tensor) -> Tensor:
        """Scale tokens [B, L, size] and add their positions."""
        placed: Tensor = self.dropout(self.scale * tokens + positions(tokens))
        return placed


def positions(tokens: Tensor) -> Tensor:
    """Give the sines, then the cosines, of each position of tokens [B, L, size], counted from 1: [L, size]."""
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    half = tokens.shape[2] // 2
    steps = torch.arange(half, device=tokens.device, dtype=dtype)
    frequencies = torch.exp(steps * (-math.log(10000) / (half - 1)))
    angles = torch.arange(1, tokens.shape[1] + 1, device=tokens.device, dtype=dtype)[:, None] * frequencies
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, tokens.shape[2] % 2))


def _linear(in_size: int, out_size: int) -> nn.Linear:
    linear = nn.Linear(in_size, out_size)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


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
        self.rgb_enc = build_trunk("rgb", options, with_embedding=False)
        self.flow_enc = build_trunk("flow", options, with_embedding=False)
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
