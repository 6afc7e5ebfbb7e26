"""Counts a model's work on one clip, from the operations that it runs."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import ClipSection
from models.fusion import CHANNELS, FusionModel


@torch.inference_mode()
def count_flops(model: FusionModel, clip: ClipSection) -> int:
    """Return the floating-point operations of predicting one clip, where a multiply-add counts as two.

    Convolutions and matrix products are counted, on the meta device, where nothing is computed and where a recurrent
    layer comes apart into its products; the kernels that CPUs and GPUs have for it are unknown to the counter.
    """
    bare = without_numbers(model).eval()
    # The counter knows attention as its matrix products, but not every fused kernel for it.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        bare(*black_clips(model, clip, 1, torch.device("meta")))
    return int(counter.get_total_flops())


def black_clips(
    model: FusionModel, clip: ClipSection, batch_size: int, device: torch.device
) -> tuple[Tensor | None, Tensor | None]:
    """Make the clips that `model` takes, uint8 zeros of the size of `clip`; None for a stream that it does not."""
    shape = (clip.num_frames, clip.crop_size, clip.crop_size)
    rgb, flow = (
        torch.zeros(batch_size, channels, *shape, dtype=torch.uint8, device=device) if stream in model.streams else None
        for stream, channels in CHANNELS.items()
    )
    return rgb, flow


def without_numbers(model: FusionModel) -> FusionModel:
    """Copy a model, its tensors onto the meta device, so that the copy takes no memory."""
    tensors: dict[int, Tensor] = {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    tensors |= {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, tensors)
