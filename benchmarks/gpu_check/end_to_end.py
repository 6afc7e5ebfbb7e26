"""Training with loading: how long the model waits for clips, decoded on the device and on the CPU."""

from argparse import Namespace
from collections.abc import Iterator

from benchmarks.gpu_check.base import Check, Row, Setup
from common.display import Display
from engine.profiling import profile_training


def run(setup: Setup) -> Iterator[Row]:
    """A row per place of decoding: clips per second of model, loader and both, and the share of time waited."""
    for device in ("cpu",) if setup.is_dry else ("auto", "cpu"):
        loader = setup.config.loader.model_copy(update={"device": device})
        train = setup.config.train.model_copy(update={"device": setup.device.type, "precision": "auto"})
        config = setup.config.model_copy(update={"loader": loader, "train": train})
        arguments = Namespace(split="train", rounds=1, batches=setup.steps, trace=None)
        report = profile_training(config, arguments, Display(quiet=True))
        speeds = {f"{name} clips/s": figure["clips_per_s"] for name, figure in report["candidates"].items()}
        yield {"loader.device": device, "precision": report["precision"], **speeds, "data wait": report["data_wait"]}


CHECK = Check("end_to_end", "training from the shards", run)
