"""What many GPUs need of disks, cores and decoders, from what the profiler measured on one machine.

    python -m pipeline.profile -c configs/xnorm.yaml --json profile.json
    python benchmarks/scaling.py profile.json --gpu-clips-per-s 100

The clips that one GPU trains on a second have to be given: python -m engine.profiling says them, on that GPU. All
else is a product of them and the profile's own figures. A profile of another machine, of another config, or of raw
frames gives a table of its own.
"""

if __name__ == "__main__":
    from configs.startup import begin

    begin()

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ConfigError, UserError, exit_code_of
from pipeline.profile_tables import markdown_table

SETS = {"subset": 11_186, "EPIC-KITCHENS-100": 67_217}  # training clips of the preset, training segments of all
GPUS = (1, 8, 64)
JPEGS_PER_FRAME = 3  # RGB, u, v


@dataclass(frozen=True)
class Costs:
    """What a clip costs, measured.

    Attributes:
        cpu_ms: CPU milliseconds by stage, of one of the machine's cores: reading, decode, hand-over, augment.
        num_bytes: bytes that are read.
        num_jpegs: JPEGs that are decoded.
    """

    cpu_ms: Mapping[str, float]
    num_bytes: float
    num_jpegs: int


@dataclass(frozen=True)
class Needs:
    """What `num_gpus` GPUs that never wait take together; per second where it says so."""

    num_gpus: int
    clips_per_s: float
    disk_mb_per_s: float
    jpegs_per_s: float
    cores: float  # kept busy where CPUs decode
    cores_without_decode: float  # where GPUs decode: what is left on CPUs, at least
    epoch_seconds: Mapping[str, float]  # by set of clips


def read_costs(path: Path) -> tuple[Costs, str]:
    """The costs in a profile, and the machine that they were measured on.

    Raises:
        UserError: the file is no profile that pipeline.profile --json wrote.
    """
    try:
        profile = json.loads(path.read_text("utf-8"))
        cpu_ms = {name: float(ms) for name, ms in profile["stages_cpu_ms_per_clip"].items()}
        num_jpegs = JPEGS_PER_FRAME * int(profile["config"]["clip"]["num_frames"])
        return Costs(cpu_ms, float(profile["bytes_per_clip"]), num_jpegs), str(profile["machine"]["cpu"])
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); pipeline.profile --json writes it") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a profile of pipeline.profile --json ({error!r})") from None


def needs(costs: Costs, num_gpus: int, gpu_clips_per_s: float) -> Needs:
    """Multiply the costs of a clip by the clips that are trained on."""
    clips_per_s = num_gpus * gpu_clips_per_s
    all_ms, decode_ms = sum(costs.cpu_ms.values()), costs.cpu_ms["decode"]
    return Needs(
        num_gpus,
        clips_per_s,
        disk_mb_per_s=clips_per_s * costs.num_bytes / 1e6,
        jpegs_per_s=clips_per_s * costs.num_jpegs,
        cores=clips_per_s * all_ms / 1e3,
        cores_without_decode=clips_per_s * (all_ms - decode_ms) / 1e3,
        epoch_seconds={name: clips / clips_per_s for name, clips in SETS.items()},
    )


def lines(costs: Costs, machine: str, rates: Sequence[float]) -> Iterator[str]:
    """A profile's costs, and a table of needs at the given `rates` of a GPU, in Markdown."""
    stages = ", ".join(f"{name} {ms:.2f}" for name, ms in costs.cpu_ms.items())
    yield f"A clip, measured on {machine}: {costs.num_bytes / 1e3:.0f} KB, {costs.num_jpegs} JPEGs, CPU ms: {stages}."
    sizes = (f"{name} {clips:,} clips, {clips * costs.num_bytes / 1e9:.1f} GB" for name, clips in SETS.items())
    yield f"To store: {'; '.join(sizes)}."
    yield ""
    totals = ("GPUs", "clips/s a GPU", "clips/s", "MB/s", "JPEGs/s", "cores", "of them not decoding")
    columns = [*totals, *(f"s an epoch, {name}" for name in SETS)]
    yield markdown_table(columns, [_row(needs(costs, num, rate), f"{rate:g}, GIVEN") for rate in rates for num in GPUS])


def _row(need: Needs, rate: str) -> list[str]:
    totals = (need.clips_per_s, need.disk_mb_per_s, need.jpegs_per_s)
    return [
        f"{need.num_gpus}",
        rate,
        *(f"{total:,.0f}" for total in totals),
        *(f"{cores:,.1f}" for cores in (need.cores, need.cores_without_decode)),
        *(f"{seconds:,.0f}" for seconds in need.epoch_seconds.values()),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", type=Path, nargs="+", metavar="PROFILE", help="what pipeline.profile --json wrote")
    parser.add_argument(
        "--gpu-clips-per-s",
        type=_rate,
        nargs="+",
        required=True,
        metavar="RATE",
        help="clips per second that one GPU trains on",
    )
    arguments = parser.parse_args(argv)
    return exit_code_of(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    for path in arguments.profiles:
        print("\n".join(lines(*read_costs(path), arguments.gpu_clips_per_s)))
    return 0


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text}, allowed: numbers above 0")
    return rate


if __name__ == "__main__":
    sys.exit(main())
