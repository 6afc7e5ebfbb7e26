"""Every kind of 3D convolution of the model in fp16 and bf16, against fp32: outputs and gradients."""

from collections.abc import Iterator

import torch

from benchmarks.gpu_check.base import Check, Row, Setup
from engine.runtime.device import DTYPES, Placement
from engine.runtime.precision_check import EXPLAINED, find_convolutions, measure


def run(setup: Setup) -> Iterator[Row]:
    """A row per convolution and precision: the largest differences, as shares of the largest value."""
    model = setup.model()
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        for precision in ("fp16", "bf16"):
            placement, bound = Placement(setup.device, precision), EXPLAINED * torch.finfo(DTYPES[precision]).eps
            for convolution in find_convolutions(model, setup.config.clip, placement):
                off = measure(convolution, setup.config.loader.batch_size, placement)
                yield {
                    "convolution": convolution.name,
                    "input": "x".join(map(str, convolution.shape[1:])),
                    "precision": precision,
                    **off,
                    "ok": all(share <= bound for share in off.values()),
                }


CHECK = Check(
    "convolutions", "3D convolutions in half precision against fp32, largest difference over largest value", run
)
