"""What a training step takes in memory and time where its clips are accumulated in parts, or stages computed again.

    python -m benchmarks.training.step_memory [--fusion xnorm] [--clips 8] [--size 112]

Each row is a process of its own, in fp32 on one thread of the CPU: the most memory that it held in two steps, beyond
what it held before them, and the CPU time of the second. All rows take the same step, but for rounding.
"""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import argument_parser
from benchmarks.memory import resident_mib
from configs import load_config
from configs.options import I3D_STAGES
from engine.model_cost import black_clips, count_training_bytes
from engine.runtime.device import Placement
from engine.runtime.world import World
from engine.training.step import TrainStep
from models import build_model
from pipeline.batch import Batch
from pipeline.profile.report import markdown_table

CONFIG = Path(__file__).parents[2] / "configs" / "base.yaml"
HALF = I3D_STAGES[: I3D_STAGES.index("Mixed_3c") + 1]
WAYS: dict[str, tuple[int, Any]] = {  # train.accumulate, model.checkpoint_stages
    "the whole batch at once": (1, []),
    "`train.accumulate=2`": (2, []),
    "`train.accumulate=4`": (4, []),
    "`model.checkpoint_stages` up to Mixed_3c": (1, HALF),
    "`model.checkpoint_stages=all`": (1, "all"),
    "`all`, and `train.accumulate=4`": (4, "all"),
}


def measure(fusion: str, clips: int, size: int, accumulate: int, stages: Any) -> tuple[float, float, float, float]:
    """MiB that are kept for the backward pass, MiB at most, CPU seconds of a step, and the norm of its gradient."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = load_config(CONFIG, [f"train.accumulate={accumulate}", f"clip.crop_size={size}", "train.precision=fp32"])
    model = build_model(fusion, checkpoint_stages=stages, freeze_bn=True, dropout=0.0)
    kept = count_training_bytes(model, config.clip, clips // accumulate)[1]
    placement = Placement(torch.device("cpu"))
    stepper = TrainStep(placement.move(model), model.losses, config.train, 0, placement, World())
    stepper.train_mode()
    rgb, flow = (x.random_(256) for x in black_clips(model, config.clip, clips, placement.device) if x is not None)
    labels = torch.arange(clips) % 8
    batch = Batch(rgb, flow, labels, labels, torch.zeros_like(labels), ())
    before = resident_mib()
    norm = float(stepper.step(batch, 0).grad_norm)
    started = time.process_time()
    stepper.step(batch, 1)
    return kept / 2**20, resident_mib("VmHWM") - before, time.process_time() - started, norm


def main() -> None:
    """Measure and print the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--fusion", default="xnorm")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    arguments = parser.parse_args()
    rows = []
    for name, way in WAYS.items():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            kept, peak, seconds, norm = process.submit(
                measure, arguments.fusion, arguments.clips, arguments.size, *way
            ).result()
        rows.append([name, f"{kept:.0f}", f"{peak:.0f}", f"{seconds:.1f}", f"{norm:.6f}"])
    print(f"{arguments.fusion}, {arguments.clips} clips of 16 x {arguments.size} x {arguments.size}\n")
    head = ["a step", "MiB kept for gradients", "MiB at most", "CPU s", "norm of the gradient"]
    print(markdown_table(head, rows))


if __name__ == "__main__":
    main()
