"""S3D and R(2+1)D-18 of torchvision as trunks: named stages, inputs as their weights want them, two flow channels."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from configs.options import TRUNK_STAGES
from models.trunks.trunk import BatchNorm3d, Projection, Trunk

# Of RGB in [0, 1], by channel: what torchvision's Kinetics weights were trained with.
RGB_MEAN = (0.43216, 0.394666, 0.37645)
RGB_STD = (0.22803, 0.22145, 0.216989)


class TorchvisionTrunk(Trunk):
    """A video network of torchvision, with its parameters' names, without its pooling and its layer of classes.

    Inputs in [-1, 1] are normalised as torchvision's weights were trained with; for flow, whose zero is no motion, by
    the mean of RGB's three deviations and no shift. Flow's first convolution has two input channels. From a file for
    RGB it gets the mean over the three, twice, times 3/2: a grey image in both channels gives what it gives in RGB,
    so that the statistics of the BatchNorm after it fit.
    """

    name: ClassVar[str]
    paths: ClassVar[tuple[str, ...]]
    """The module of each stage."""
    widths: ClassVar[tuple[int, ...]]
    """The channels after each stage."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, in_channels: int, embedding_size: int | None, dropout: float = 0.0, batchnorm_momentum: float = 0.01
    ) -> None:
        """Build the trunk; without an `embedding_size` it gives features alone."""
        super().__init__()
        self.stages = TRUNK_STAGES[self.name]
        self.channels = dict(zip(self.stages, self.widths, strict=True))
        for child, module in self.network().named_children():
            if any(path.split(".")[0] == child for path in self.paths):
                self.add_module(child, module)
        for parent in list(self.modules()):
            for child, module in parent.named_children():
                if isinstance(module, nn.BatchNorm3d):
                    setattr(parent, child, BatchNorm3d(module.num_features, module.eps, batchnorm_momentum))
        mean, std = list(RGB_MEAN), list(RGB_STD)
        if in_channels == 2:
            first = self._first_convolution()[1]
            first.in_channels, first.weight = (
                2,
                nn.Parameter(first.weight.new_empty(len(first.weight), 2, *first.kernel_size)),
            )
            first.reset_parameters()
            mean, std = [0.5] * 2, [sum(RGB_STD) / 3] * 2
        self.register_buffer("mean", 2 * torch.tensor(mean).view(1, -1, 1, 1, 1) - 1, persistent=False)
        self.register_buffer("std", 2 * torch.tensor(std).view(1, -1, 1, 1, 1), persistent=False)
        self.dropout = nn.Dropout(dropout)
        if embedding_size is not None:
            self.logits = Projection(self.out_channels, embedding_size)

    @staticmethod
    def network() -> Any:
        """Build torchvision's network, with random weights."""
        raise NotImplementedError

    def stage(self, name: str) -> nn.Module:
        """Return the module that is called `name` in `stages`."""
        return self.get_submodule(self.paths[self.stages.index(name)])

    def forward_stage(self, name: str, x: Tensor) -> Tensor:
        """Run one of `stages` on the output of the one before it; the first takes a clip in [-1, 1]."""
        if name == self.stages[0]:
            x = (x - self.mean) / self.std
        return super().forward_stage(name, x)

    def adapt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Make RGB's first convolution one of two channels, where this is flow's."""
        name, first = self._first_convolution()
        weight = state.get(f"{name}.weight")
        if weight is None or weight.dim() != 5 or (first.in_channels, weight.shape[1]) != (2, 3):
            return state
        return {**state, f"{name}.weight": weight.mean(dim=1, keepdim=True).repeat(1, 2, 1, 1, 1) * 1.5}

    def _first_convolution(self) -> tuple[str, nn.Conv3d]:
        return next((name, module) for name, module in self.named_modules() if isinstance(module, nn.Conv3d))


class S3D(TorchvisionTrunk):
    """S3D (Xie et al., ECCV 2018): I3D's stages, with its convolutions split into space and time."""

    name = "s3d"
    paths = tuple(f"features.{position}" for position in range(16))
    widths = (64, 64, 64, 192, 192, 256, 480, 480, 512, 512, 512, 528, 832, 832, 832, 1024)
    classifier_prefix = "classifier."

    @staticmethod
    def network() -> Any:
        """Build torchvision's network."""
        from torchvision.models.video import s3d  # a second of importing that I3D does not need

        return s3d(weights=None)  # its norms have the epsilon 1e-3


class R2Plus1D18(TorchvisionTrunk):
    """R(2+1)D-18 (Tran et al., CVPR 2018): a stem and four layers of two residual blocks."""

    name = "r2plus1d_18"
    paths = ("stem", "layer1", "layer2", "layer3", "layer4")
    widths = (64, 64, 128, 256, 512)
    classifier_prefix = "fc."

    @staticmethod
    def network() -> Any:
        """Build torchvision's network."""
        from torchvision.models.video import r2plus1d_18

        return r2plus1d_18(weights=None)


NETWORKS: dict[str, type[TorchvisionTrunk]] = {network.name: network for network in (S3D, R2Plus1D18)}
