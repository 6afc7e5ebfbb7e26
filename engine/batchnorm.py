"""BatchNorm over the clips of all ranks, so that how a batch is shared out changes nothing."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class CpuSyncBatchNorm3d(nn.BatchNorm3d):
    """The formula of torch's SyncBatchNorm, whose kernels are for GPUs alone, in plain operations."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of x [B, C, T, H, W], in training by the moments over all ranks."""
        if not self.training:
            return super().forward(x)
        mean, var = self._moments(x)
        mean, scale, shift = (v.view(-1, 1, 1, 1) for v in (mean, self.weight * torch.rsqrt(var + self.eps), self.bias))
        return torch.addcmul(shift, x - mean, scale).to(x.dtype)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance of each channel over all ranks, [C]; keep the running ones up."""
        count = x.numel() // x.shape[1]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(wide, dim=(0, 2, 3, 4), correction=0)
        # In fp64, where the square of the mean can be taken off again without a loss.
        mean, square = mean.double(), var.double() + mean.double().square()
        sums: Tensor = _SumOverRanks.apply(torch.cat([count * mean, count * square, mean.new_tensor([count])]))
        total = sums[-1].detach()
        mean, square = (sums[:-1] / total).chunk(2)
        var = square - mean.square()
        self._track(mean.detach(), var.detach() * total / (total - 1))
        dtype = self.weight.dtype
        return mean.to(dtype), var.to(dtype)

    def _track(self, mean: Tensor, unbiased_var: Tensor) -> None:
        """Move the running statistics towards those of this batch, as BatchNorm does."""
        assert self.momentum is not None
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased_var)):
            assert running is not None
            running.lerp_(value.to(running.dtype), self.momentum)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)


class _SumOverRanks(torch.autograd.Function):
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


def synchronize(module: nn.Module, device: torch.device) -> None:
    """Let every BatchNorm in `module` look at all ranks; its weights, statistics and names stay."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(module, name, _synchronized(child))
        else:
            synchronize(child, device)


def _synchronized(norm: nn.BatchNorm3d) -> CpuSyncBatchNorm3d:
    new = CpuSyncBatchNorm3d(norm.num_features, norm.eps, norm.momentum)
    new.weight, new.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        new.register_buffer(name, buffer)
    return new.train(norm.training)
