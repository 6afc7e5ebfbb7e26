"""Whether a loader's memory stays flat: resident memory after a few epochs and after many.

python -m benchmarks.memory SPLIT [--epochs 50]
"""

from pathlib import Path

from benchmarks.command import argument_parser
from pipeline.loader import ClipLoader

EARLY = 5  # epochs after which buffers have their size


def main() -> None:
    """Run the epochs and print resident memory, early and late, while the loader is open."""
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument("split", type=Path)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--crop-size", type=int, default=112)
    arguments = parser.parse_args()
    for _ in range(arguments.rounds):
        resident = {}
        with ClipLoader(arguments.split, 8, 16, arguments.crop_size, num_threads=2) as loader:
            for epoch in range(1, arguments.epochs + 1):
                for _ in loader:
                    pass
                resident[epoch] = resident_mib()
        early, late = resident[EARLY], resident[arguments.epochs]
        print(f"{early:.1f} MiB after {EARLY} epochs, {late:.1f} MiB after {arguments.epochs}: {late / early - 1:+.2%}")


def resident_mib(key: str = "VmRSS") -> float:
    """This process's resident set, now (VmRSS) or at its highest (VmHWM), MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
