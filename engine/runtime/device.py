"""Device and precision of a run: one code for CPU and GPU, the differences being settings."""

import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from common.errors import ConfigError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
REFUSED_ON_CPUS = {
    "fp16": "needs a GPU",
    "bf16": "CPUs do not compute rightly (torch's gradients of bf16 Conv3d are garbage where there is avx512_bf16)",
}
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes that getrusage counts in
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Placement:
    """A device and the precision of the forward pass on it."""

    device: torch.device
    precision: str = "fp32"

    def autocast(self) -> torch.autocast:
        """Return the context of the forward pass; without effect for fp32."""
        return torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Return the loss scaler that fp16's narrow range needs; it passes all through for the others."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def move(self, model: Module) -> Module:
        """Move a model here, with its weights channels last, as clips lie."""
        return model.to(self.device).to(memory_format=torch.channels_last_3d)

    def reset_peak_memory(self) -> None:
        """Let `peak_memory` start anew from what is held now, where the system can do that."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        with suppress(OSError):  # Linux alone has this
            Path("/proc/self/clear_refs").write_text("5")

    def peak_memory(self) -> int:
        """Return the most bytes held so far: of the GPU's memory by torch, or of the machine's by this process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def choose_placement(device: str, precision: str, local_rank: int = 0, asked_by: str = "train.device") -> Placement:
    """Turn a device and a precision into a placement; `auto` takes what this machine has.

    `asked_by` is the key or option that the device was named by.

    Raises:
        ConfigError: a GPU that is not there, or fp16 or bf16 on a CPU.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and not num_gpus:
        raise ConfigError(f"{asked_by}: found 'cuda', but torch sees no GPU here; allowed: auto, cpu")
    if device == "cpu" or not num_gpus:
        if precision in REFUSED_ON_CPUS:
            reason = REFUSED_ON_CPUS[precision]
            raise ConfigError(f"train.precision: found '{precision}', which {reason}; allowed on a CPU: auto, fp32")
        return Placement(torch.device("cpu"))
    if local_rank >= num_gpus:
        raise ConfigError(f"torchrun: process {local_rank} of this machine has no GPU of its own; it has {num_gpus}")
    torch.cuda.set_device(local_rank)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = True
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return Placement(torch.device("cuda", local_rank), precision)
