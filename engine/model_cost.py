"""Cost of a model: FLOPs, counted from what it runs, and the memory that training it takes."""

import copy
import warnings

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from common.memory import LOWER, available_bytes
from configs.schema import ClipSection
from models.fusion import CHANNELS, FusionModel


@torch.inference_mode()
def count_flops(model: FusionModel, clip: ClipSection) -> int:
    """Return the floating-point operations of predicting one clip, where a multiply-add counts as two.

    Convolutions and matrix products are counted, on the meta device, where nothing is computed and where a recurrent
    layer comes apart into its products; the kernels that CPUs and GPUs have for it are unknown to the counter.
    """
    bare = to_meta(model).eval()
    # The counter knows attention as its matrix products, but not every fused kernel for it.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        bare(*black_clips(model, clip, 1, torch.device("meta")))
    return int(counter.get_total_flops())


def black_clips(
    model: FusionModel, clip: ClipSection, batch_size: int, device: torch.device
) -> tuple[Tensor | None, Tensor | None]:
    """Make the clips that `model` takes in its mode, uint8 zeros of the size of `clip`; None for other streams."""
    needed = model.decoded(model.training)
    shape = (clip.num_frames, clip.crop_size, clip.crop_size)
    rgb, flow = (
        torch.zeros(batch_size, channels, *shape, dtype=torch.uint8, device=device) if stream in needed else None
        for stream, channels in CHANNELS.items()
    )
    return rgb, flow


def to_meta(model: FusionModel) -> FusionModel:
    """Copy a model, its tensors onto the meta device, so that the copy takes no memory."""
    tensors: dict[int, Tensor] = {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    tensors |= {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, tensors)


COPIES = 3  # of each trained weight beside itself: its gradient and AdamW's two moments
GIB = 2**30
MOST_BYTES = 8192  # of activations a pixel; both streams of I3D at its full width keep about 900


def warn_if_memory_short(model: FusionModel, clip: ClipSection, batch_size: int, num_processes: int = 1) -> None:
    """Warn when training on `batch_size` clips at once takes more memory than this machine has left.

    The count leaves out what comes and goes within one operation: steps were measured to take 1.07 to 1.10 times as
    much. It is a warning, as what is left may change. `num_processes` of this machine do the same.
    """
    available = available_bytes()
    if available is None:
        return
    share = available // num_processes
    if batch_size * clip.num_frames * clip.crop_size**2 * MOST_BYTES < share:
        return  # plainly enough, and counting takes a second
    weights, activations = count_training_bytes(model, clip, batch_size)
    if weights + activations > share:
        warnings.warn(memory_short_message(weights, activations, share, batch_size), stacklevel=2)


def memory_short_message(weights: int, activations: int, available: int, batch_size: int) -> str:
    """Put a shortage into words, with the batch size that would fit."""
    fits = int(max(0, available - weights) / (activations / batch_size))
    way_out = f"{fits} at once would fit" if fits else "not even one clip would fit"
    state, kept, whole, there = (n / GIB for n in (weights, activations, weights + activations, available))
    return (
        f"training takes at least {whole:.1f} GiB a process ({state:.1f} for gradients and optimizer, {kept:.1f} for "
        f"activations of {batch_size} clips), {there:.1f} GiB are available; if it is killed, {LOWER}: {way_out}"
    )


def count_training_bytes(model: FusionModel, clip: ClipSection, batch_size: int) -> tuple[int, int]:
    """Return the bytes that training a model on its device takes in addition to its weights: state, and activations.

    Activations are what the forward pass of `batch_size` clips keeps for the backward pass.
    """
    bare = to_meta(model).train()
    trained = sum(parameter.nbytes for parameter in bare.parameters() if parameter.requires_grad)
    own = {tensor.untyped_storage()._cdata for tensor in (*bare.parameters(), *bare.buffers())}
    kept: dict[int, Tensor] = {}  # by storage, so that what is saved twice counts once; kept, so that none is reused

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = bare(*black_clips(model, clip, batch_size, torch.device("meta")))  # held until all is counted
    activations = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)
    del output
    return COPIES * trained, activations
