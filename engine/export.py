"""Hands a run on: python -m engine.export RUN writes safetensors, a torch.export program, ONNX and a model card."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import contextlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import torch
import yaml
from torch import Tensor, nn

from common.cli import command_parser, path_type
from common.display import Display
from common.errors import ConfigError, UserError, exit_code_of
from common.files import atomic_files, make_folder
from configs.schema import ClipSection
from engine.model_cost import black_clips
from engine.runs.checkpoint import EXPORTED, State, find_checkpoint, load_checkpoint
from engine.runs.model_card import Licences, model_card
from engine.runs.provenance import preprocessing, trained_classes
from engine.runs.records import CONFIG
from engine.runs.trained import model_of
from models import FusionModel
from models.checkpoint import tensor_file

PROGRAM, ONNX = "model.pt2", "model.onnx"
FORMATS = {"program": PROGRAM, "onnx": ONNX}
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CARD = "README.md"
TOLERANCE = 1e-5  # of logits, beside the largest of them where that is above 1
CHECKED = 3  # clips; another batch size than the one that is traced

NOTES = f"""\
Writes {EXPORTED} (weights, with config, class names and preprocessing as metadata; predict.py, eval.py and load_run
read it), {CONFIG}, {CARD} (the model card, of the run's own numbers), {PROGRAM} (torch.export) and {ONNX}. The last two
map uint8 clips, rgb [B, 3, T, H, W] and flow [B, 2, T, H, W], any number at a time, to logits [B, C]. They are held to
the model's own numbers before they are kept.
"""
EXAMPLES = """\
python -m engine.export runs/xnorm
python -m engine.export runs/own --formats onnx --license mit -o own-model
"""


class Logits(nn.Module):
    """A model that gives its logits alone; a stream that it does not use is None."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, rgb: Tensor | None, flow: Tensor | None) -> Tensor:
        """Map uint8 clips [B, 3, T, H, W] and [B, 2, T, H, W] to logits [B, C]."""
        logits: Tensor = self.model(rgb, flow).logits
        return logits


Clips = dict[str, Tensor | None]  # by stream
Export = tuple[Callable[[IO[bytes]], object], Callable[[Clips], Tensor]]  # writes it; runs it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)

    def work() -> int:
        formats = [name for name in FORMATS if name in arguments.formats]
        if "onnx" in formats:
            require_onnx()
        checkpoint = find_checkpoint(arguments.run)
        folder = arguments.output or checkpoint.parent / "export"
        display = Display(arguments.quiet)
        export(checkpoint, folder, formats, Licences(arguments.license, arguments.data_license), display)
        return 0

    return exit_code_of(work)


def require_onnx() -> None:
    """Refuse ONNX where its packages are not there, before the work.

    Raises:
        ConfigError: with how to install them.
    """
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--formats onnx: {', '.join(missing)} not installed; pip install '.[export]', or leave it out by "
            "--formats program"
        )


def export(
    checkpoint: Path, folder: Path, formats: Sequence[str], licences: Licences, display: Display
) -> dict[str, float]:
    """Write a checkpoint into `folder`, all files or none; return how far each format's logits are from the model's.

    Raises:
        UserError: torch cannot export the method, its numbers differ, or the folder cannot be written to.
    """
    state = load_checkpoint(checkpoint)
    model = model_of(state, checkpoint).eval()
    clip = ClipSection.model_validate(state["config"]["clip"])
    about = _metadata(state)
    random = random_clips(model, clip, CHECKED)
    with torch.inference_mode():
        expected = model(**random).logits
    differences = {}
    traced = random_clips(model, clip, 2)
    trace = cache(partial(_trace, model, traced))  # once for all formats
    make_folder(folder)
    with atomic_files(folder) as create:
        create(EXPORTED).write(tensor_file(state["model"], about))
        yaml.safe_dump(state["config"], create(CONFIG, "w"), sort_keys=False)
        for name in formats:
            display.print(f"{FORMATS[name]} ...")
            write, run = _exported(name, model, trace, traced, about)
            differences[name] = _difference(run(random), expected, f"{checkpoint}: {name}")
            write(create(FORMATS[name]))
            display.print(f"{FORMATS[name]}: logits within {differences[name]:.1e} of the model's")
        create(CARD, "w").write(model_card(checkpoint, state, model, licences, differences))
    display.print(f"written to {folder}")
    return differences


def random_clips(model: FusionModel, clip: ClipSection, batch_size: int) -> Clips:
    """Clips of random pixels of the streams that the model sees; None for the others."""
    generator = torch.Generator().manual_seed(0)
    black = zip(("rgb", "flow"), black_clips(model, clip, batch_size, torch.device("cpu")), strict=True)
    return {
        stream: None if pixels is None else torch.randint(0, 256, pixels.shape, dtype=torch.uint8, generator=generator)
        for stream, pixels in black
    }


def _metadata(state: State) -> dict[str, str]:
    """What the files say of themselves: JSON of everything in a checkpoint but tensors, and how clips are made."""
    kept = {key: state[key] for key in ("config", "data", "epoch", "top1") if key in state}
    readable = {"classes": trained_classes(state.get("data")), "preprocessing": preprocessing(state)}
    return {key: json.dumps(value) for key, value in (kept | readable).items()}


def _trace(model: FusionModel, clips: Clips) -> Any:
    """torch.export's program of a model, for any number of clips."""
    batch = torch.export.Dim("batch")
    free = {stream: None if pixels is None else {0: batch} for stream, pixels in clips.items()}
    return torch.export.export(Logits(model), tuple(clips.values()), dynamic_shapes=free)


def _exported(name: str, model: FusionModel, trace: Callable[[], Any], clips: Clips, about: dict[str, str]) -> Export:
    """Export a model, which `trace` makes a program of, as that or as ONNX."""
    try:
        with torch.no_grad(), _silence():
            program = trace()
            if name == "program":
                return lambda file: _save_program(program, file, about), lambda given: program.module()(*given.values())
            return _as_onnx(program, clips, about)
    except Exception as error:  # of the many kinds that tracing brings up: the method has to be seen
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"model.fusion={model.options.fusion}: torch cannot export it as {name} ({reason}); "
            "leave that out by --formats"
        ) from error


def _save_program(program: Any, file: IO[bytes], about: dict[str, str]) -> None:
    buffer = io.BytesIO()  # torch wants a file that it can seek in
    torch.export.save(program, buffer, extra_files=dict(about))
    file.write(buffer.getvalue())


def _as_onnx(program: Any, clips: Clips, about: dict[str, str]) -> Export:
    import onnxruntime

    named = {stream: None if pixels is None else {0: "batch"} for stream, pixels in clips.items()}
    made = torch.onnx.export(program, dynamo=True, verbose=False, output_names=["logits"], dynamic_shapes=named)
    assert made is not None
    made.model.metadata_props.update(about)
    content = made.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(given: Clips) -> Tensor:
        fed = {stream: pixels.numpy() for stream, pixels in given.items() if pixels is not None}
        return torch.from_numpy(session.run(["logits"], fed)[0])

    return lambda file: file.write(content), run


def _difference(found: Tensor, expected: Tensor, what: str) -> float:
    """How far logits are apart, as a share of the largest where that is above 1.

    Raises:
        UserError: too far.
    """
    found = found.detach()
    share = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
    if not share <= TOLERANCE:
        raise UserError(f"{what}: its logits are {share:.1e} from the model's, allowed: {TOLERANCE:g}")
    return share


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what torch and its exporters log and warn of, which concerns their own parts, from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("engine.export", "Write a run's model for others.", EXAMPLES, notes=NOTES)
    parser.add_argument("run", metavar="RUN", type=path_type, help="a run's folder, or a checkpoint")
    parser.add_argument(
        "--formats", nargs="*", choices=tuple(FORMATS), default=tuple(FORMATS), help="beside the safetensors"
    )
    parser.add_argument("--license", metavar="ID", help="of the weights, for the card (default: not stated)")
    parser.add_argument("--data-license", metavar="TEXT", help="of the data, for the card (default: not stated)")
    parser.add_argument(
        "-o", "--output", type=path_type, metavar="FOLDER", help="where to write (default: export/ in the run's folder)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
