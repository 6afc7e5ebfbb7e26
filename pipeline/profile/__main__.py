"""Command line: the loader's speed by stage, beside its floor and other ways of loading."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common.cli import add_config, at_least, command_parser, path_type, require_parent
from common.display import Display
from common.errors import exit_code_of
from common.files import atomic_write
from configs import Config, load_config
from pipeline.format.index import check_packed
from pipeline.format.split import Split, open_split
from pipeline.loader import ClipLoader
from pipeline.profile.measure import describe_machine, measure_shown, ratios, spread_of_rounds, summary
from pipeline.profile.report import plot_profile, show_loader, show_rivals, show_sweep
from pipeline.profile.rivals import Rivals, open_rivals
from pipeline.profile.stages import loader_batches, stage_candidates, stage_costs

DESCRIPTION = (
    "Measure how fast the loader is, stage by stage, beside its floor and other ways of loading the same clips."
)
NOTES = """\
CPU time is that of all threads and worker processes together; it says more than wall time on a machine that is shared.
"""
EXAMPLES = """\
python -m pipeline.profile -c configs/xnorm.yaml
python -m pipeline.profile -c configs/xnorm.yaml --rivals --json profile.json --plot profile.png
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
    parser.add_argument(
        "--rivals",
        action="store_true",
        help="also measure other ways of loading the same clips, all that are installed",
    )
    parser.add_argument("--baselines", action="store_true", help="of --rivals, those that need no further package")
    parser.add_argument(
        "--beside",
        type=path_type,
        nargs="+",
        metavar="SHARDS",
        default=(),
        help="with the others, also the loader on the same clips packed otherwise (default: none)",
    )
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
    with Display(arguments.quiet) as display, tempfile.TemporaryDirectory() as scratch:
        report = profile(config, split, arguments, Path(scratch), display)
        show_loader(report, display)
        show_rivals(report, display)
        if arguments.sweep:
            report["sweep"] = sweep(config, len(split.table), arguments, display)
            show_sweep(report["sweep"], display)
    if arguments.json:
        with atomic_write(arguments.json, "w") as file:
            json.dump(report, file, indent=2)
    if arguments.plot:
        plot_profile(report, arguments.plot)
    return 0


def profile(
    config: Config, split: Split, arguments: argparse.Namespace, scratch: Path, display: Display
) -> dict[str, Any]:
    """All figures of the loader's stages, and of the rivals if asked for, as the JSON has them."""
    load_before = os.getloadavg()[0]
    candidates = stage_candidates(config, arguments.split)
    wanted = {"beside": arguments.beside, "plain": arguments.rivals or arguments.baselines, "extra": arguments.rivals}
    rivals = open_rivals(config, split, scratch, display, **wanted) if any(wanted.values()) else Rivals()
    ahead = config.loader.num_threads * config.loader.prefetch if rivals.candidates else 0  # each worker's queue
    rounds = measure_shown(candidates | rivals.candidates, arguments.rounds, arguments.batches, display, ahead)
    rivals.close()
    figures = {name: result.summary() for name, result in rounds.items()}
    cpu_ms = {name: figure["cpu_ms_per_clip"] for name, figure in figures.items()}
    clip_bytes = float(split.table.size.sum() / len(split.table))
    speed = figures["loader"]["clips_per_s"]
    for name, result in rounds.items():
        for base in ("floor", "loader"):
            figures[name] |= summary(f"over_{base}", ratios(result.cpu_ms, rounds[base].cpu_ms))
    return {
        "machine": describe_machine(),
        "load_average": [load_before, os.getloadavg()[0]],
        "config": {"clip": config.clip.model_dump(), "loader": config.loader.model_dump()},
        "candidates": figures,
        "rivals": rivals.about,
        "left_out": rivals.left_out,
        "stages_cpu_ms_per_clip": stage_costs(cpu_ms),
        "loader_over_floor": cpu_ms["loader"] / cpu_ms["floor"],
        "rounds": arguments.rounds,
        "noise": max(spread_of_rounds(rounds[name].cpu_ms) for name in ("floor", "loader")),
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


if __name__ == "__main__":
    sys.exit(main())
