"""MulT's transformer: tokens attend to those of another stream, or to their own, never to later ones."""

import math

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from configs.methods import MultOptions


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
        x = self.place(tokens)
        placed = None if memory is None else self.place(memory)
        for layer in self.layers:
            x = layer(x, placed)
        result: Tensor = self.layer_norm(x)
        return result

    def place(self, tokens: Tensor) -> Tensor:
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
