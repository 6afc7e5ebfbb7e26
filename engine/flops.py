"""Counts a model's work on one clip, from the operations that it runs."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import ClipSection
from models.fusion import FusionModel

CHANNELS = {"rgb": 3, "flow": 2}


@torch.inference_mode()
def count_flops(model: FusionModel, clip: ClipSection) -> int:
    """Return the floating-point operations of predicting one clip, where a multiply-add counts as two.

    Convolutions and matrix products are counted, on the meta device, where nothing is computed and where a recurrent
    layer comes apart into its products; the kernels that CPUs and GPUs have for it are unknown to the counter.
    """
    size = (clip.num_frames, clip.crop_size, clip.crop_size)
    rgb, flow = (
        torch.zeros(1, CHANNELS[stream], *size, dtype=torch.uint8, device="meta") if stream in model.streams else None
        for stream in ("rgb", "flow")
    )
    bare = without_numbers(model).eval()
    # The counter knows attention as its matrix products, but not every fused kernel for it.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        bare(rgb, flow)
    return int(counter.get_total_flops())


def without_numbers(model: FusionModel) -> FusionModel:
    """Copy a model, its tensors onto the meta device, so that the copy takes no memory."""
    tensors: dict[int, Tensor] = {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    tensors |= {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, tensors)
