"""NormExchange: one stream's features, normalised, then scaled and shifted by what the other stream says."""

import torch
from torch import Tensor

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
