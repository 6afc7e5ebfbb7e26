"""BatchNorm over the clips of all ranks on CPUs, for which torch has none: only with it can ranks be compared here."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from engine.runtime.batchnorm import replace_norms
from models.trunks.trunk import BatchNorm3d, track_statistics


class CpuSyncBatchNorm3d(BatchNorm3d):
    """The formula of torch's SyncBatchNorm in plain operations."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        mean, var = self._moments(x)
        mean, scale, shift = (v.view(-1, 1, 1, 1) for v in (mean, self.weight * torch.rsqrt(var + self.eps), self.bias))
        return torch.addcmul(shift, x - mean, scale).to(x.dtype)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each channel over all ranks, [C]."""
        count = x.numel() // x.shape[1]
        var, mean = torch.var_mean(x, dim=(0, 2, 3, 4), correction=0)
        # In fp64, where the square of the mean can be taken off again without a loss.
        mean, square = mean.double(), var.double() + mean.double().square()
        sums: Tensor = SumOverRanks.apply(torch.cat([count * mean, count * square, mean.new_tensor([count])]))
        total = sums[-1].detach()
        mean, square = (sums[:-1] / total).chunk(2)
        var = square - mean.square()
        dtype = self.weight.dtype
        track_statistics(self, mean.detach().to(dtype), (var.detach() * total / (total - 1)).to(dtype))
        return mean.to(dtype), var.to(dtype)


class SumOverRanks(torch.autograd.Function):
    """A sum that all ranks get; its gradient is the sum of the gradients that all ranks have for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        dist.all_reduce(total)
        return total


def synchronize_on_cpus(module: torch.nn.Module, _: torch.device) -> None:
    """Stands in for engine.runtime.batchnorm.synchronize."""
    replace_norms(module, CpuSyncBatchNorm3d)
