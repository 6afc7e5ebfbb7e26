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
    with ClipLoader(arguments.split, 8, 16, arguments.crop_size, num_threads=2) as loader:
        early = resident_after(loader, EARLY)
        late = resident_after(loader, arguments.epochs - EARLY)
    print(f"{early:.1f} MiB after {EARLY} epochs, {late:.1f} MiB after {arguments.epochs}: {late / early - 1:+.2%}")


def resident_after(loader: ClipLoader, epochs: int) -> float:
    """Resident memory after so many more epochs, MiB; the loader is still open."""
    for _ in range(epochs):
        for _ in loader:
            pass
    return resident_mib()


def resident_mib() -> float:
    """This process's resident set now, MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
