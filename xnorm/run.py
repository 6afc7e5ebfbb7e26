"""A trained run, loaded to be asked: what it was trained for, and what it says of videos that it has never seen."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from common.errors import ConfigError, UserError
from common.paths import expand_path
from engine.runs.checkpoint import State, load_checkpoint
from engine.runs.provenance import class_names, source_differences, trained_classes
from engine.runtime.device import Placement, choose_placement
from models import FusionModel, build_model
from models.checkpoint import load_state
from models.trunks.trunk import Trunk
from pipeline.options import LoaderOptions
from preprocess.packing.codec import Codec
from preprocess.videos.encoding import ExtractOptions
from preprocess.videos.extract_all import Extraction
from preprocess.videos.segments import read_table
from xnorm.predictions import Predictions
from xnorm.sources import ClipSource, SplitSource, Storing, VideoSource, is_split
from xnorm.spans import Cut

BEST = "best.pt"  # of a run's folder
BATCH_SIZE = 8  # clips that the model sees at once
UNKNOWN = """\
its frames were not made by extract.py, so that how flow is to be made of a video is not known; \
say it by --flow-options FILE (an extract.json, or its options), or give a packed split in place of videos"""


@dataclass(frozen=True)
class TrainedRun:
    """A model and all that it takes to show it clips as it was trained to see them.

    Attributes:
        path: the checkpoint.
        model: in eval mode, on its device.
        placement: the device; the precision is fp32.
        options: of the loaders that show it clips.
        storing: what packing stored of each clip.
        classes: the names of its classes [C]; None where the run knows none.
        made: how frames and flow are made of a video; None: not known.
        data: what the checkpoint knows of its training data.
    """

    path: Path
    model: FusionModel
    placement: Placement
    options: LoaderOptions
    storing: Storing
    classes: list[str] | None
    made: ExtractOptions | None
    data: State

    @property
    def about(self) -> dict[str, Any]:
        """What a file of predictions says of the run, plain values."""
        made = None if self.made is None else self.made.model_dump()
        return {"checkpoint": str(self.path), "fusion": self.model.options.fusion, "made": made}

    def predict(self, source: str | Path, **cut: Any) -> Predictions:
        """What the run says of a video, a folder of frames or a packed split.

        Args:
            source: its path.
            cut: `window` and `hop`, seconds, or `segments`, a CSV as extract.py reads it: how a video is cut into
                clips, of which it is one without them; `fps`: frames per second to take, or of a folder's frames.

        Raises:
            UserError: the source cannot be used, or how flow is made is not known.
            ConfigError: arguments that do not go together.
        """
        return self.score(self.open(source, **cut))

    @torch.inference_mode()
    def features(self, source: str | Path, **cut: Any) -> dict[str, Tensor]:
        """What the last stage of each stream's trunk makes of the clips: float32 [N, T', C], the mean over each map.

        Arguments and errors are those of predict().
        """
        found: dict[str, list[Tensor]] = {}
        with last_stages(self.model) as maps:
            for _ in self._outputs(self.open(source, **cut)):
                for stream, features in maps.items():  # [B, C, T', H', W']
                    found.setdefault(stream, []).append(features.float().mean(dim=(3, 4)).transpose(1, 2).cpu())
        return {stream: torch.cat(parts) for stream, parts in found.items()}

    def open(
        self,
        source: str | Path,
        *,
        window: float | None = None,
        hop: float | None = None,
        segments: str | Path | None = None,
        fps: float | None = None,
    ) -> ClipSource:
        """Find the clips of a source, without decoding them; arguments are those of predict().

        Raises:
            UserError, ConfigError: as of predict().
        """
        path = expand_path(source)
        cut = Cut(window, hop, None if segments is None else read_table(expand_path(segments), labelled=False))
        if is_split(path):
            if cut != Cut() or fps is not None:
                raise ConfigError(f"{path}: a packed split is cut into clips already; leave out window, segments, fps")
            split = SplitSource(path, self.options)
            made = source_differences(self.data, split.loader)
            split.notes += [f"{path}: not made as in training: {'; '.join(made)}"] if made else []
            return split
        if self.made is None:
            raise UserError(f"{self.path}: {UNKNOWN}")
        made_as = self.made if fps is None else self.made.model_copy(update={"fps": fps})
        if cut.segments is not None and cut.segments.unit == "frames" and made_as.fps is not None:
            raise ConfigError(
                f"{cut.segments.path}: counts frames, which --fps {made_as.fps:g} makes others; write seconds"
            )
        return VideoSource(path, cut, made_as, self.options, self.storing)

    @torch.inference_mode()
    def score(self, source: ClipSource, on_progress: Callable[[int], None] | None = None) -> Predictions:
        """What the run says of the clips of open(); `on_progress` is told how many are done.

        Raises:
            UserError: the video is damaged, or the scores of a clip are not finite.
        """
        logits: list[Tensor] = []
        for batch in self._outputs(source):
            logits.append(batch)
            if not batch.isfinite().all():
                raise UserError(f"{self.path}: the scores are not finite; its weights have diverged")
            if on_progress is not None:
                on_progress(sum(map(len, logits)))
        return Predictions(source.spans, torch.cat(logits), self.classes, source.notes)

    def _outputs(self, source: ClipSource) -> Iterator[Tensor]:
        """The logits of each batch, float32 [B, C] on the CPU."""
        for batch in source.batches():
            batch = batch.to(self.placement.device)
            yield self.model(batch.rgb, batch.flow).logits.float().cpu()


def load_run(
    path: str | Path,
    device: str = "auto",
    num_threads: int | None = None,
    flow_options: str | Path | None = None,
) -> TrainedRun:
    """Load a run's best weights, or those of a checkpoint; nothing is unpickled.

    Args:
        path: a run's folder, or a checkpoint of train.py.
        device: auto (a GPU where there is one), cpu or cuda.
        num_threads: that decode and compute flow; None: as many as there are cores for this process.
        flow_options: a JSON file that says how frames and flow are made of a video (an extract.json, or its options),
            in place of what the run knows.

    Raises:
        UserError: there is no such checkpoint, or it is damaged.
        ConfigError: the device cannot be had, or `flow_options` cannot be read.
    """
    path = expand_path(path)
    checkpoint = path / BEST if path.is_dir() else path
    if not checkpoint.is_file():
        raise UserError(
            f"{checkpoint}: no such checkpoint; allowed: the folder of a run that has {BEST}, or a .pt file"
        )
    state = load_checkpoint(checkpoint)
    placement = choose_placement(device, "fp32")  # making the flow takes far longer than the model, in any precision
    sections = {name: _section(state, name, checkpoint) for name in ("data", "clip", "loader", "model")}
    model = build_model(**sections["model"] | {"pretrained": None})
    load_state(model, state["model"], str(checkpoint))
    threads = num_threads or len(os.sched_getaffinity(0))
    fixed = {"train": False, "batch_size": BATCH_SIZE, "num_threads": threads, "streams": model.streams}
    data = state.get("data")
    run = TrainedRun(
        path=checkpoint,
        model=placement.move(model).eval(),
        placement=placement,
        options=LoaderOptions.of({**sections["clip"], **fixed}),
        storing=_storing(sections["data"]),
        classes=_names(data, sections["model"]["num_classes"]),
        made=_made(data, checkpoint),
        data=data if isinstance(data, dict) else {},
    )
    return run if flow_options is None else replace(run, made=read_flow_options(expand_path(flow_options)))


def read_flow_options(path: Path) -> ExtractOptions:
    """How frames and flow are made, of an extract.json, or of its options alone.

    Raises:
        ConfigError: it cannot be read, or says something else.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    with suppress(ValidationError):
        return Extraction.model_validate_json(text).options
    with suppress(ValidationError):
        return ExtractOptions.model_validate_json(text)
    keys = ", ".join(ExtractOptions.model_fields)
    raise ConfigError(f"{path}: neither an extract.json nor options of one; allowed: a JSON object with {keys}")


@contextmanager
def last_stages(model: nn.Module) -> Iterator[Mapping[str, Tensor]]:
    """Lend a mapping that has, after each forward pass, by stream what its trunk's last stage gave, [B, C, T', H', W'].

    A trunk is a stream's that is called as the stream, or so with `_enc` after it.
    """
    found: dict[str, Tensor] = {}

    def note(stream: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        found[stream] = output

    hooks = [
        trunk.stage(trunk.stages[-1]).register_forward_hook(partial(note, name.removesuffix("_enc")))
        for name, trunk in model.named_children()
        if isinstance(trunk, Trunk)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _section(state: State, name: str, checkpoint: Path) -> dict[str, Any]:
    section = state["config"].get(name) if isinstance(state["config"], dict) else None
    if not isinstance(section, dict):
        raise UserError(f"{checkpoint}: not a checkpoint of train.py: its config has no {name} section")
    return section


def _storing(data: Mapping[str, Any]) -> Storing:
    """What packing stored; only pixels that were scaled are others than those of the JPEGs."""
    frames, short_side = data.get("frames_per_clip", "all"), data.get("raw_short_side")
    return Storing(None if frames == "all" else frames, Codec() if short_side is None else Codec("raw", short_side))


def _names(data: Any, num_classes: int) -> list[str] | None:
    names = next(iter(trained_classes(data).values()), None)
    return class_names(names, num_classes) if names else None


def _made(data: Any, checkpoint: Path) -> ExtractOptions | None:
    source = data.get("source") if isinstance(data, dict) else None
    if source is None:
        return None
    try:
        return Extraction.model_validate(source).options
    except ValidationError:
        raise UserError(
            f"{checkpoint}: how its data were made is damaged, or of another version of extract.py; "
            "say it by --flow-options FILE"
        ) from None
