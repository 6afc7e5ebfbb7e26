"""What training takes of memory, counted before it starts: on the meta device, where nothing is computed."""

import warnings

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from configs.memory import LOWER, available_bytes
from configs.schema import ClipSection
from engine.flops import black_clips, without_numbers
from models.fusion import FusionModel

COPIES = 3  # of each trained weight beside itself: its gradient and AdamW's two moments
GIB = 2**30
MOST_BYTES = 8192  # of activations a pixel; both streams of I3D at its full width keep about 900


def warn_of_shortage(model: FusionModel, clip: ClipSection, batch_size: int, num_processes: int = 1) -> None:
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
        warnings.warn(describe_shortage(weights, activations, share, batch_size), stacklevel=2)


def describe_shortage(weights: int, activations: int, available: int, batch_size: int) -> str:
    """Put a shortage into words, with the batch size that would fit."""
    fits = int(max(0, available - weights) / (activations / batch_size))
    way_out = f"loader.batch_size={fits} would fit" if fits else "not even one clip would fit"
    state, kept, whole, there = (n / GIB for n in (weights, activations, weights + activations, available))
    return (
        f"training takes at least {whole:.1f} GiB a process ({state:.1f} for gradients and optimizer, {kept:.1f} for "
        f"activations of {batch_size} clips), {there:.1f} GiB are available; if it is killed, {LOWER}: {way_out}"
    )


def count_training_bytes(model: FusionModel, clip: ClipSection, batch_size: int) -> tuple[int, int]:
    """Return the bytes that training a model in its place takes in addition to its weights: state, and activations.

    Activations are what the forward pass of `batch_size` clips keeps for the backward pass.
    """
    bare = without_numbers(model).train()
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
