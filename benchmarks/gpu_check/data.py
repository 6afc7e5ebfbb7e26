"""Clips of EPIC's size, packed with and without restart markers, for the checks to load."""

import subprocess
import sys
from pathlib import Path

from benchmarks.gpu_check.ranks import ROOT
from benchmarks.packing import write_tree

CLIP = 16  # RGB frames


def make_data(folder: Path, videos: int, clips: int) -> tuple[list[str], Path]:
    """Write `clips` clips of each video and pack them twice; overrides that name them, and the shards with markers."""
    annotations = write_tree(folder, videos, clips * CLIP, clip=CLIP)
    named = f"data.annotations={{train: [{annotations}], val: [{annotations}]}}"
    common = ["data.preset=none", f"data.frames_per_clip={CLIP}", f"data.frames={folder / 'folders'}", named]
    for codec in ("jpeg", "jpeg-restarts"):
        command = [sys.executable, "-m", "preprocess.pack", "-c", "configs/xnorm.yaml", *common, f"data.codec={codec}"]
        subprocess.run([*command, f"data.shards={folder / codec}", "--quiet"], cwd=ROOT, check=True)
    return [*common, f"data.shards={folder / 'jpeg'}"], folder / "jpeg-restarts"
