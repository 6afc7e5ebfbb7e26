"""Clips of EPIC's size, packed with and without restart markers, for the checks to load."""

from pathlib import Path

from benchmarks.packing import pack, write_tree

CLIP = 16  # RGB frames


def make_data(folder: Path, videos: int, clips: int) -> tuple[list[str], Path]:
    """Write `clips` clips of each video and pack them twice; overrides that name them, and the shards with markers."""
    frames, annotations = folder / "folders", write_tree(folder, videos, clips * CLIP, clip=CLIP)
    named = f"data.annotations={{train: [{annotations}], val: [{annotations}]}}"
    stored = f"data.frames_per_clip={CLIP}"
    for codec in ("jpeg", "jpeg-restarts"):
        pack(frames, annotations, folder / codec, named, stored, f"data.codec={codec}")
    overrides = ["data.preset=none", stored, f"data.frames={frames}", named, f"data.shards={folder / 'jpeg'}"]
    return overrides, folder / "jpeg-restarts"
