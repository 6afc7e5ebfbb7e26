"""What every trunk is: stages in a row and a map to an embedding, which can be run one by one, and frozen."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn


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

    class_layer: ClassVar[str]
    """Prefix of the layer of classes in files of pretrained weights; it is not loaded."""
    where_from: ClassVar[str]
    """Where pretrained weights can be had."""

    stages: tuple[str, ...]
    dropout: nn.Dropout
    logits: Projection  # to the embedding; not there (or not used) where a method wants features alone

    def __init__(self) -> None:
        super().__init__()
        self.frozen = False
        self.channels: dict[str, int] = {}  # of each stage's output

    @property
    def out_channels(self) -> int:
        """Channels of the last stage."""
        return self.channels[self.stages[-1]]

    def stage(self, name: str) -> nn.Module:
        """Return the module that is called `name` in `stages`."""
        return self.get_submodule(name)

    def forward_stage(self, name: str, x: Tensor) -> Tensor:
        """Run one of `stages` on the output of the one before it."""
        result: Tensor = self.stage(name)(x)
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

    def freeze(self) -> None:
        """Stop the training of the stages, for good; the new map to the embedding still learns."""
        self.frozen = True
        for name in self.stages:
            self.stage(name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Trunk":
        """Switch modes, but leave the BatchNorm of frozen stages as it was loaded."""
        super().train(mode)
        if self.frozen:
            for name in self.stages:
                self.stage(name).eval()
        return self
