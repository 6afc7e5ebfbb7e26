"""Synchronized BatchNorm: statistics over the clips of all ranks."""

import torch
from torch import Tensor, nn

from common.errors import ConfigError
from models.trunks.trunk import track_statistics


class SyncBatchNorm(nn.SyncBatchNorm):
    """torch's, with running statistics that follow the batches as those of models.trunks.trunk.BatchNorm3d do."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of x [B, C, T, H, W], in training by the moments over all ranks."""
        if not self.training:
            normalized: Tensor = super().forward(x)
            return normalized
        kept = self.running_mean, self.running_var, self.momentum, self.num_batches_tracked
        assert self.running_mean is not None
        assert self.num_batches_tracked is not None
        batch = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_mean)
        (self.running_mean, self.running_var), self.momentum = batch, 1.0
        self.num_batches_tracked = self.num_batches_tracked.clone()
        try:
            normalized = super().forward(x)
        finally:
            self.running_mean, self.running_var, self.momentum, self.num_batches_tracked = kept
        track_statistics(self, *batch)
        return normalized


def synchronize(module: nn.Module, device: torch.device) -> None:
    """Synchronize every BatchNorm in `module` over all ranks; its weights, statistics and names stay.

    Raises:
        ConfigError: this is no GPU.
    """
    if device.type != "cuda":
        raise ConfigError("train.sync_batchnorm: found true, which needs GPUs (torch has it for no other device)")
    replace_norms(module, SyncBatchNorm)


def replace_norms(module: nn.Module, kind: type[nn.modules.batchnorm._BatchNorm]) -> None:
    """Replace every BatchNorm3d in `module` by a norm of this kind with its weights and statistics."""
    for name, child in module.named_children():
        if not isinstance(child, nn.BatchNorm3d):
            replace_norms(child, kind)
            continue
        norm = kind(child.num_features, child.eps, child.momentum)
        norm.weight, norm.bias = child.weight, child.bias
        for key, buffer in child.named_buffers():
            norm.register_buffer(key, buffer)
        setattr(module, name, norm.train(child.training))
