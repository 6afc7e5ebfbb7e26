"""Runs the commands of a new user on synthetic videos, times each, and keeps what came out in docs/example/."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.cli import command_parser, path_type
from common.errors import UserError, exit_code_of

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs" / "example"
HEIGHT, WIDTH, RATE = 96, 128, 25  # pixels, frames per second
MOVES = {"left": (-2, 0), "right": (2, 0), "up": (0, -2)}  # pixels per frame; one a second of each video
NUM_VIDEOS = 8  # to learn from
SETTINGS = (
    *("clip.num_frames=8", "clip.crop_size=64", "clip.mirror=0", "loader.batch_size=6", "model.width=0.25"),
    *("model.batchnorm_momentum=0.1", "train.lr=1.0e-3", "train.epochs=12", "train.stop_patience=12"),
    "train.tensorboard=false",
)
COMMANDS = {
    "frames and flow": "preprocess/extract.py videos segments.csv -o own --short-side 0 --bound 8",
    "pack": "preprocess/pack.py -c own/config.yaml",
    "train": f"train.py -c own/config.yaml {' '.join(SETTINGS)}",
    "predict, captioned": "predict.py runs/own new.mp4 --window 1 --hop 0.5 --render captioned.mp4",
    "export": "-m engine.export runs/own --formats --license cc0-1.0 --data-license 'synthetic, by docs/example.py'",
}
GIF_STEP, GIF_COLORS = 4, 64  # every so many frames


def main(argv: list[str] | None = None) -> int:
    """Write videos, run the commands, print a table of their seconds; exit code 1 where one fails."""
    parser = command_parser("example.py", "Remake docs/example/ from synthetic videos.", "python docs/example.py")
    parser.add_argument(
        "-o", "--output", type=path_type, metavar="FOLDER", help="new, keeps the whole run (default: a temporary one)"
    )
    arguments = parser.parse_args(argv)
    return exit_code_of(lambda: _make(arguments.output))


def _make(output: Path | None) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = output or Path(name)
        _write_videos(folder)
        print("| step | s |\n|---|---:|")
        for step, command in COMMANDS.items():
            print(f"| {step} | {_seconds(command, folder):.0f} |", flush=True)
        KEPT.mkdir(exist_ok=True)
        for file in ("predictions.csv", "predictions.json"):
            shutil.copy(folder / "predictions" / file, KEPT)
        shutil.copy(folder / "runs/own/export/README.md", KEPT / "model-card.md")
        _keep_gif(folder / "captioned.mp4", KEPT / "captioned.gif")
    return 0


def _seconds(command: str, folder: Path) -> float:
    began = time.perf_counter()
    script, *rest = command.split(maxsplit=1)
    words = f"{ROOT / script if script != '-m' else script} {rest[0]}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        f"{sys.executable} {words} --quiet", shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )
    if ran.returncode:
        raise UserError(f"{command}: exit code {ran.returncode}: {ran.stderr.strip()}")
    return time.perf_counter() - began


def _write_videos(folder: Path) -> None:
    """Videos of a texture that moves in each direction for a second, in an order of its own; one more to predict."""
    (folder / "videos").mkdir(parents=True)
    rows = ["file,start,stop,label"]
    generator = np.random.default_rng(0)
    for number in range(NUM_VIDEOS + 1):
        order = generator.permutation(list(MOVES)).tolist()
        is_new = number == NUM_VIDEOS
        _encode(folder / "new.mp4" if is_new else folder / f"videos/{number}.mp4", _frames(order, generator))
        rows += [] if is_new else [f"{number}.mp4,{at},{at + 1},{move}" for at, move in enumerate(order)]
    (folder / "segments.csv").write_text("\n".join(rows) + "\n")


def _frames(order: list[str], generator: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """[H, W, 3] of a window that moves over a texture, against the direction in which that is seen to move."""
    margin = 2 * RATE * len(order)
    size = (WIDTH + 2 * margin, HEIGHT + 2 * margin)
    coarse = generator.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    texture = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    x = y = margin
    for move in order:
        for _ in range(RATE):
            yield texture[y : y + HEIGHT, x : x + WIDTH]
            x, y = x - MOVES[move][0], y - MOVES[move][1]


def _encode(path: Path, frames: Iterator[NDArray[np.uint8]]) -> None:
    import av  # of the extra `extract`

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 2_000_000
        stream.time_base = Fraction(1, RATE)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _keep_gif(video: Path, path: Path) -> None:
    """Some frames of a video, in few colours."""
    import av

    with av.open(str(video)) as container:
        shown = [frame.to_image() for number, frame in enumerate(container.decode(video=0)) if not number % GIF_STEP]
    first, *others = (image.quantize(GIF_COLORS, dither=Image.Dither.NONE) for image in shown)
    duration = 1000 * GIF_STEP // RATE
    first.save(path, save_all=True, append_images=others, duration=duration, loop=0, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
