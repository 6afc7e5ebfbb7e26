"""Frames of as many bytes as EPIC-KITCHENS' own: those of a folder, with noise.

    python -m benchmarks.noisy FRAMES OUT

FRAMES holds <participant>/{rgb,flow}_frames/... as folders of JPEGs; below OUT the same files are written, with the
standard deviation of the noise that makes RGB 36.4 kB on average and flow 15.4 kB.
"""

import statistics
from pathlib import Path

import numpy as np
import simplejpeg

from benchmarks.command import argument_parser

SAMPLE = 60  # images by whose bytes the noise is chosen


class Kind:
    """A kind of image: its colour space, its sampling, the bytes and the quality of its JPEGs."""

    def __init__(self, folder: str, space: str, sampling: str, num_bytes: int, quality: int) -> None:
        self.folder, self.space, self.sampling = folder, space, sampling
        self.num_bytes, self.quality = num_bytes, quality

    def paths(self, frames: Path) -> list[Path]:
        """All of this kind below `frames`."""
        return sorted(frames.glob(f"*/{self.folder}/**/*.jpg"))

    def noise_level(self, jpegs: list[bytes]) -> float:
        """The standard deviation of the noise that makes `jpegs` `num_bytes` on average."""
        low, high = 0.0, 40.0
        while high - low > 0.1:
            noise = (low + high) / 2
            size = statistics.mean(len(self.with_noise(jpeg, noise, seed)) for seed, jpeg in enumerate(jpegs))
            low, high = (noise, high) if size < self.num_bytes else (low, noise)
        return low

    def with_noise(self, jpeg: bytes, noise: float, seed: int) -> bytes:
        """The same image with Gaussian noise of this standard deviation."""
        pixels = simplejpeg.decode_jpeg(jpeg, self.space)
        values = pixels + np.random.default_rng(seed).normal(0, noise, pixels.shape)
        noisy = values.round().clip(0, 255).astype(np.uint8)
        return bytes(simplejpeg.encode_jpeg(noisy, self.quality, self.space, self.sampling))


KINDS = {
    "RGB": Kind("rgb_frames", "RGB", "420", 36_400, 90),
    "grey": Kind("flow_frames", "GRAY", "Gray", 15_400, 95),
}


def main() -> None:
    """Write the tree, and print what was chosen."""
    parser = argument_parser(__doc__)
    parser.add_argument("frames", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    for name, kind in KINDS.items():
        paths = kind.paths(arguments.frames)
        noise = kind.noise_level([path.read_bytes() for path in paths[:: -(-len(paths) // SAMPLE)]])
        sizes = []
        for seed, path in enumerate(paths):
            jpeg = kind.with_noise(path.read_bytes(), noise, seed)
            target = arguments.out / path.relative_to(arguments.frames)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(jpeg)
            sizes.append(len(jpeg))
        print(f"{name}: {len(paths)} images, noise of {noise:.1f} levels, {statistics.mean(sizes):,.0f} bytes each")


if __name__ == "__main__":
    main()
