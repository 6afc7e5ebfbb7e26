"""Whether a loader's memory stays flat: resident memory after a few epochs and after many.

python benchmarks/memory.py SPLIT_DIR [--epochs 50]
"""

import argparse
from pathlib import Path

from pipeline.loader import ClipLoader

EARLY = 5  # epochs after which buffers have their size


def main() -> None:
    """Run the epochs and print resident memory, early and late."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", type=Path)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--crop-size", type=int, default=112)
    arguments = parser.parse_args()
    early = 0.0
    with ClipLoader(arguments.split, 8, 16, arguments.crop_size, num_threads=2) as loader:
        for epoch in range(1, arguments.epochs + 1):
            for _ in loader:
                pass
            if epoch == EARLY:
                early = resident_mib()
    late = resident_mib()
    print(f"{early:.1f} MiB after {EARLY} epochs, {late:.1f} MiB after {arguments.epochs}: {late / early - 1:+.2%}")


def resident_mib() -> float:
    """This process's resident set now, MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
