"""Counts a model's work on one clip, from the operations that it runs."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import ClipSection
from models.fusion import FusionModel

CHANNELS = {"rgb": 3, "flow": 2}


@torch.inference_mode()
def count_flops(model: FusionModel, clip: ClipSection) -> int:
    """Return the floating-point operations of predicting one clip, where a multiply-add counts as two.

    Convolutions and matrix products are counted, wherever the model lies (on the meta device nothing is computed).
    """
    device = next(model.parameters()).device
    size = (clip.num_frames, clip.crop_size, clip.crop_size)
    rgb, flow = (
        torch.zeros(1, CHANNELS[stream], *size, dtype=torch.uint8, device=device) if stream in model.streams else None
        for stream in ("rgb", "flow")
    )
    model.eval()
    # The counter knows attention as its matrix products, but not every fused kernel for it.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(rgb, flow)
    return int(counter.get_total_flops())
