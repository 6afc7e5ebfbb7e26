"""Command line: the loader's speed by stage, beside its floor and other ways of loading."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from common.cli import add_config, at_least, command_parser, path_type, require_parent
from common.display import Display
from common.errors import exit_code_of
from common.files import atomic_write
from configs import Config, UserError, load_config
from pipeline.format.index import check_packed
from pipeline.format.split import Split, open_split
from pipeline.loader import ClipLoader
from pipeline.profile.baselines import (
    DecodedClips,
    dataloader_batches,
    decode_opencv,
    decode_torchvision,
    tfrecord_batches,
)
from pipeline.profile.measure import describe_machine, measure_shown
from pipeline.profile.published import PublishedClips, has_folders
from pipeline.profile.report import plot_profile, show_loader, show_sweep
from pipeline.profile.stages import loader_batches, stage_candidates, stage_costs

STREAMS = ("rgb", "flow")
MOST_FRAMES = 1000  # with more, the names of the records' features have four digits

DESCRIPTION = (
    "Measure how fast the loader is, stage by stage, beside its floor and other ways of loading the same clips."
)
NOTES = """\
CPU time is that of all threads and worker processes together; it says more than wall time on a machine that is shared.
"""
EXAMPLES = """\
python -m pipeline.profile -c configs/xnorm.yaml
python -m pipeline.profile -c configs/xnorm.yaml --baselines --json profile.json --plot profile.png
python -m pipeline.profile -c configs/xnorm.yaml --sweep loader.device=cpu
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it went."""
    arguments = _parser().parse_intermixed_args(argv)
    return exit_code_of(partial(_run, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.profile", DESCRIPTION, EXAMPLES, notes=NOTES)
    add_config(parser)
    parser.add_argument("--split", default="train", help="which packed split")
    parser.add_argument("--rounds", metavar="N", type=at_least(1), default=3, help="interleaved rounds")
    parser.add_argument("--batches", metavar="N", type=at_least(1), default=20, help="batches per candidate and round")
    parser.add_argument("--baselines", action="store_true", help="also measure other ways of loading the same clips")
    parser.add_argument("--sweep", action="store_true", help="try threads, batch sizes and prefetch, and recommend")
    parser.add_argument("--json", type=path_type, metavar="FILE", help="write all figures (default: none written)")
    parser.add_argument(
        "--plot",
        type=path_type,
        metavar="FILE",
        help="draw the stages beside the floor and the baselines (default: not drawn)",
    )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    for path in (arguments.json, arguments.plot):
        require_parent(path)
    config = load_config(arguments.config, arguments.overrides)
    check_packed(config.data.shards / arguments.split, config.pack_command)
    split = open_split(config.data.shards / arguments.split)
    with Display(arguments.quiet) as display:
        report = profile(config, split, arguments, display)
        show_loader(report, display)
        if arguments.sweep:
            report["sweep"] = sweep(config, len(split.table), arguments, display)
            show_sweep(report["sweep"], display)
    if arguments.json:
        with atomic_write(arguments.json, "w") as file:
            json.dump(report, file, indent=2)
    if arguments.plot:
        plot_profile(report, arguments.plot)
    return 0


def profile(config: Config, split: Split, arguments: argparse.Namespace, display: Display) -> dict[str, Any]:
    """All figures of the loader's stages, and of the baselines if asked for, as the JSON has them."""
    candidates = stage_candidates(config, arguments.split, STREAMS)
    if arguments.baselines:
        candidates |= _baselines(config, split, display)
    rounds = measure_shown(candidates, arguments.rounds, arguments.batches, display)
    figures = {name: result.summary() for name, result in rounds.items()}
    cpu_ms = {name: figure["cpu_ms_per_clip"] for name, figure in figures.items()}
    clip_bytes = float(split.table.size.sum() / len(split.table))
    speed = figures["loader"]["clips_per_s"]
    return {
        "machine": describe_machine(),
        "config": {"clip": config.clip.model_dump(), "loader": config.loader.model_dump()},
        "candidates": figures,
        "stages_cpu_ms_per_clip": stage_costs(cpu_ms),
        "loader_over_floor": cpu_ms["loader"] / cpu_ms["floor"],
        "clips_per_s": speed,
        "frames_per_s": speed * config.clip.num_frames * 3,
        "mb_per_s": speed * clip_bytes / 1e6,
        "bytes_per_clip": clip_bytes,
    }


def sweep(config: Config, num_clips: int, arguments: argparse.Namespace, display: Display) -> list[dict[str, Any]]:
    """The loader's speed over threads, batch sizes and prefetch, the fastest first."""
    loader = config.loader
    grid = [{"num_threads": n} for n in sorted({1, 2, 4, 8, loader.num_threads})]
    grid += [{"batch_size": n} for n in sorted({max(1, loader.batch_size // 2), loader.batch_size * 2})]
    grid += [{"prefetch": n} for n in (1, 2, 4)]
    settings = [{k: getattr(loader, k) for k in ("num_threads", "batch_size", "prefetch")} | change for change in grid]
    unique = {json.dumps(setting): setting for setting in settings if setting["batch_size"] <= num_clips}
    candidates = {
        name: loader_batches(ClipLoader.from_config(config, arguments.split, train=True, **setting))
        for name, setting in unique.items()
    }
    rounds = measure_shown(candidates, arguments.rounds, arguments.batches, display)
    rows = [unique[name] | result.summary() for name, result in rounds.items()]
    return sorted(rows, key=lambda row: -row["clips_per_s"])


def _baselines(config: Config, split: Split, display: Display) -> dict[str, Iterator[int]]:
    if split.codec != "jpeg":
        raise UserError(
            f"--baselines: they load JPEGs, and {split.dir} stores {split.codec}; pack it with data.codec=jpeg"
        )
    stored = np.diff(split.table.first_frame)
    if stored.min() < config.clip.num_frames or stored.max() > MOST_FRAMES:
        raise UserError(
            f"--baselines: clips of {split.dir} store {stored.min()} to {stored.max()} frames, but DALI's own reader "
            f"needs {config.clip.num_frames} (clip.num_frames) to {MOST_FRAMES} of each"
        )
    batch_size, threads = config.loader.batch_size, config.loader.num_threads
    sizes = {"num_frames": config.clip.num_frames, "crop_size": config.clip.crop_size}
    if min(split.table.height.min(), split.table.width.min()) < config.clip.crop_size:
        raise UserError(
            f"--baselines: frames of {split.dir} are smaller than clip.crop_size, which they cannot scale up"
        )
    data = {
        "OpenCV + DataLoader, as published": PublishedClips(split, config.data.frames, **sizes),
        "OpenCV + DataLoader": DecodedClips(split, decode=decode_opencv, **sizes),
        "torchvision + DataLoader": DecodedClips(split, decode=decode_torchvision, **sizes),
    }
    if not has_folders(split, config.data.frames):
        del data["OpenCV + DataLoader, as published"]
        display.print(f"without the published way: {config.data.frames} does not hold the frames as folders")
    workers = {"batch_size": batch_size, "num_workers": threads, "prefetch": config.loader.prefetch}
    return {
        **{name: dataloader_batches(clips, **workers) for name, clips in data.items()},
        "DALI readers.tfrecord": tfrecord_batches(split, batch_size=batch_size, num_threads=threads, **sizes),
    }


if __name__ == "__main__":
    sys.exit(main())
