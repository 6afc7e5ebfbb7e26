"""Remakes docs/img/ and docs/example/ from the demos' data, by the commands that users have: `make pictures`."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

import train
from common.cli import command_parser
from common.errors import UserError, exit_code_of
from common.palette import SERIES
from configs import load_config
from configs.schema import SPLITS
from engine.training.optimisation import LearningRate
from pipeline.inspect import __main__ as inspect
from pipeline.profile import __main__ as profile
from preprocess import pack, synth

ROOT = Path(__file__).resolve().parents[1]
DEMO = ["-c", str(ROOT / "configs" / "demo.yaml")]
BINDING = ["-c", str(ROOT / "configs" / "demo-binding.yaml")]
IMAGES, EXAMPLE = ROOT / "docs" / "img", ROOT / "docs" / "example"
NUM_COLORS = 256  # a third of the bytes
MOST_BYTES = 200_000
STEPS = 20  # of an epoch, of the schedules that are drawn
SCHEDULES = {
    "plateau, lr_factor=0.3": ["schedule=plateau", "lr_patience=3", "lr_factor=0.3"],
    "cosine, warmup_steps=100": ["schedule=cosine", "warmup_steps=100"],
    "step, lr_steps=[20, 40], lr_factor=0.3": ["schedule=step", "lr_steps=[20,40]", "lr_factor=0.3"],
}
MOST_PAGE_BYTES = 1_000_000
EPOCHS = 4  # too few, so that the page has mistakes to show


def main(argv: list[str] | None = None) -> int:
    """Make all of them; exit code 1 when one is too large for a repository."""
    parser = command_parser(
        "pictures.py", "Remake docs/img/ and docs/example/ from the demos' data.", "python docs/pictures.py"
    )
    arguments = parser.parse_args(argv)
    return exit_code_of(lambda: _make(["--quiet"] if arguments.quiet else []))


def _make(silence: list[str]) -> int:
    for kept in (IMAGES, EXAMPLE):
        kept.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.chdir(scratch)  # so that the example's config has no path of this machine
        data = _write_data(DEMO, "additive", silence)
        sheets = {
            "sheet.png": ["--clip", "P04_102_1", "--raw"],  # a video of 2020's kind: one flow frame for each RGB frame
            "batch.png": ["--batch", "4"],
        }
        for name, options in sheets.items():
            _must(inspect.main([*DEMO, *data, *silence, *options, "-o", str(scratch / name)]))
        _must(profile.main([*DEMO, *data, *silence, "--rivals", "--plot", str(scratch / "profile.png")]))
        bound = _write_data(BINDING, "binding", silence)
        _must(inspect.main([*BINDING, *bound, *silence, "--eval", "-o", str(scratch / "binding.png")]))
        run = ["model.fusion=xnorm", "name=xnorm", "runs=runs", f"train.epochs={EPOCHS}"]
        _must(train.main([*BINDING, *bound, *silence, *run]))
        shutil.copy(scratch / "runs" / "xnorm" / "curves.png", scratch)
        shutil.copy(scratch / "runs" / "xnorm" / "report.html", EXAMPLE)
        _hold_to(EXAMPLE / "report.html", MOST_PAGE_BYTES)
        draw_schedules(scratch / "schedules.png")
        for path in sorted(scratch.glob("*.png")):
            _keep(path)
    return 0


def draw_schedules(path: Path) -> None:
    """Draw the rates of 50 epochs of 20 steps, as the trainer takes them; validations improve for 12 epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.subplots()
    for color, (name, overrides) in zip(SERIES, SCHEDULES.items(), strict=False):
        settings = load_config(DEMO[1], [f"train.{each}" for each in ("epochs=50", "lr=1", *overrides)]).train
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        rate, rates = LearningRate(optimizer, settings, STEPS), []
        for step in range(50 * STEPS):
            rates.append(rate.rate(step))
            if (step + 1) % STEPS == 0:
                rate.end_epoch(min(step // STEPS, 12))
        axes.plot([step / STEPS for step in range(50 * STEPS)], rates, label=name, color=color)
    axes.set(xlabel="epoch", ylabel="of train.lr", xlim=(0, 50), ylim=(0, 1.05))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def _write_data(config: list[str], task: str, silence: list[str]) -> list[str]:
    """Write and pack a demo's data; return the overrides that name it."""
    frames = f"{task}/data"
    _must(synth.main(["-o", frames, "--task", task, *silence]))
    annotations = ", ".join(f"{split}: [{frames}/annotations/{split}.csv]" for split in SPLITS)
    data = [f"data.frames={frames}", f"data.shards={task}/shards", f"data.annotations={{{annotations}}}"]
    _must(pack.main([*config, *data, *silence]))
    return data


def _must(exit_code: int) -> None:
    if exit_code:
        raise UserError(f"a command ended with exit code {exit_code}, see above")


def _keep(path: Path) -> None:
    """Put a picture into docs/img/, in few colours."""
    target = IMAGES / path.name
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(NUM_COLORS, dither=Image.Dither.NONE).save(target, optimize=True)
    _hold_to(target, MOST_BYTES)


def _hold_to(path: Path, most_bytes: int) -> None:
    if path.stat().st_size > most_bytes:
        raise UserError(f"{path}: {path.stat().st_size} bytes, allowed: {most_bytes}")


if __name__ == "__main__":
    sys.exit(main())
