"""Base of all trunks: a sequence of stages and a map to an embedding; stages run one by one and can be frozen."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils.checkpoint import checkpoint


class PointwiseConv3d(nn.Conv3d):
    """A 1x1x1 convolution, computed as what it is: a product of matrices.

    Where channels lie last this copies nothing. Torch's own convolution of this size has, on one thread of a CPU, a
    kernel for planes alone, around which it would rearrange all maps.
    """

    def __init__(self, channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(channels, out_channels, kernel_size=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in, T, H, W] to [B, out, T, H, W], channels last."""
        pixels = F.linear(x.permute(0, 2, 3, 4, 1), self.weight.flatten(1), self.bias)  # [B, T, H, W, out]
        return pixels.permute(0, 4, 1, 2, 3)


class BatchNorm3d(nn.BatchNorm3d):
    """BatchNorm whose running statistics are of use from the first batch on.

    They are the plain mean of the batches seen until that moves them by less than `momentum`: a batch's share is
    max(momentum, 1 / batches seen). With `momentum` alone what they began with, 0 and 1, would be most of them for
    1 / momentum batches. Statistics that were loaded count as so many batches (`trust_statistics`).
    A single value per channel has no variance, so it is normalised by the running statistics: the last stages see one
    of a single clip of 8 x 32 x 32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of x [B, C, T, H, W]."""
        if not self.training:
            return super().forward(x)
        if x.numel() == self.num_features:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, var = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        output = F.batch_norm(x, mean, var, self.weight, self.bias, training=True, momentum=1.0, eps=self.eps)
        track_statistics(self, mean, var)  # of this batch alone, which a momentum of 1 leaves there
        return output


@torch.no_grad()
def track_statistics(norm: BatchNorm, mean: Tensor, var: Tensor) -> None:
    """Move running statistics towards a batch's: mean and unbiased variance, both [C].

    All is computed on the device, so that nothing waits for it and torch.compile sees no number that changes.
    """
    assert norm.momentum is not None
    assert norm.num_batches_tracked is not None
    if not norm.track_running_stats:  # a stage is computed again for its gradients, see Trunk.forward_stage
        return
    norm.num_batches_tracked.add_(1)
    for running, value in ((norm.running_mean, mean), (norm.running_var, var)):
        assert running is not None
        share = norm.num_batches_tracked.to(running.dtype).reciprocal().clamp_(min=norm.momentum)
        running.lerp_(value, share)


def trust_statistics(module: nn.Module) -> None:
    """Count the running statistics in `module`, which were loaded, as so many batches that new ones get `momentum`."""
    for norm in module.modules():
        if isinstance(norm, BatchNorm) and norm.momentum and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.clamp_(min=math.ceil(1 / norm.momentum))


class Projection(nn.Module):
    """A linear map of the channels; a module of its own because the published name is `logits.conv3d`."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv3d = PointwiseConv3d(channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in, T, H, W] to [B, out, T, H, W]."""
        result: Tensor = self.conv3d(x)
        return result


class Trunk(nn.Module):
    """One stream's network. A subclass registers its stages, names them in `stages`, and fills `channels`."""

    classifier_prefix: ClassVar[str]
    """Prefix of the layer of classes in files of pretrained weights; it is not loaded."""

    stages: tuple[str, ...]
    dropout: nn.Dropout
    logits: Projection  # to the embedding; not there (or not used) where a method wants features alone

    def __init__(self) -> None:
        super().__init__()
        self.frozen: tuple[str, ...] = ()  # stages
        self.freezes_norms = False
        self.recomputed: tuple[str, ...] = ()  # stages whose activations are not kept, see checkpoint
        self.channels: dict[str, int] = {}  # of each stage's output

    @property
    def out_channels(self) -> int:
        """Channels of the last stage."""
        return self.channels[self.stages[-1]]

    def stage(self, name: str) -> nn.Module:
        """Return the module that is called `name` in `stages`."""
        return self.get_submodule(name)

    def stage_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of all stages: what pretrained weights are for, without the map to the embedding."""
        for name in self.stages:
            yield from self.stage(name).parameters()

    def forward_stage(self, name: str, x: Tensor) -> Tensor:
        """Run one of `stages` on the output of the one before it.

        Of the stages in `recomputed` the input alone is kept for the backward pass, which runs them again (Chen et al.,
        2016, section 3).
        """
        stage = self.stage(name)
        if name in self.recomputed and torch.is_grad_enabled():
            # Nothing in a stage is random.
            contexts = partial(_contexts_of, stage)
            result: Tensor = checkpoint(stage, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
            return result
        result = stage(x)
        return result

    def forward_features(self, x: Tensor) -> Tensor:
        """Map a clip [B, in_channels, T, H, W] in [-1, 1] to the last stage's [B, C, T', H', W']."""
        for name in self.stages:
            x = self.forward_stage(name, x)
        return x

    def embed(self, features: Tensor) -> Tensor:
        """Map the last stage's features [B, C, T, H, W] to embeddings [B, embedding_size]."""
        pooled = F.avg_pool3d(features, features.shape[2:])  # the whole map; 2 x 7 x 7 at 16 x 224 x 224 in I3D
        embedding: Tensor = self.logits(self.dropout(pooled))
        return embedding.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map a clip [B, in_channels, T, H, W] in [-1, 1] to embeddings [B, embedding_size]."""
        return self.embed(self.forward_features(x))

    def adapt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Make pretrained weights, by name, those of this stream."""
        return state

    def freeze(self, stages: Iterable[str] = (), norms: bool = False) -> None:
        """Stop the training of these stages, or of all BatchNorm, for good; the map to the embedding still learns."""
        self.frozen, self.freezes_norms = tuple(stages), norms
        for module in self._frozen():
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Trunk":
        """Switch modes, but leave what is frozen, with its BatchNorm, as it was loaded."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def _frozen(self) -> Iterator[nn.Module]:
        yield from map(self.stage, self.frozen)
        if self.freezes_norms:
            yield from (module for module in self.modules() if isinstance(module, BatchNorm))


def _contexts_of(stage: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What a stage is run in, and run again in: where its batch is not tracked a second time."""
    return nullcontext(), _untracked(stage)


@contextmanager
def _untracked(stage: nn.Module) -> Iterator[None]:
    norms = [module for module in stage.modules() if isinstance(module, BatchNorm) and module.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
