"""Loads a trained run: its model, how that sees clips, the names of its classes, and how its data were made."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from common.cores import usable_cores
from common.errors import ConfigError, UserError
from common.paths import expand_path
from engine.runs.checkpoint import State, find_checkpoint, load_checkpoint
from engine.runs.provenance import class_names, trained_classes
from engine.runs.trained import model_of
from engine.runtime.device import choose_placement
from pipeline.options import LoaderOptions
from preprocess.packing.codec import Codec
from preprocess.videos.encoding import ExtractOptions
from preprocess.videos.extract_all import Extraction
from xnorm.run import TrainedRun
from xnorm.sources import Storing

BATCH_SIZE = 8  # clips that the model sees at once


class _Stored(BaseModel):
    frames_per_clip: PositiveInt | Literal["all"]
    raw_short_side: PositiveInt | None = None


class _Method(BaseModel):
    model_config = ConfigDict(extra="allow")
    fusion: str
    num_classes: PositiveInt | dict[str, PositiveInt]


class _Config(BaseModel):
    """What of a checkpoint's config is needed here; models and loaders check the rest of their options themselves."""

    data: _Stored
    clip: dict[str, Any]
    model: _Method


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
    checkpoint = find_checkpoint(expand_path(path))
    state = load_checkpoint(checkpoint)
    placement = choose_placement(device, "fp32", asked_by="device")  # making flow takes far longer than the model
    config = _read_config(state, checkpoint)
    model = model_of(state, checkpoint)
    threads = num_threads or usable_cores()
    fixed = {"train": False, "batch_size": BATCH_SIZE, "num_threads": threads, "streams": model.streams}
    data = state.get("data")
    return TrainedRun(
        path=checkpoint,
        model=placement.move(model).eval(),
        placement=placement,
        options=LoaderOptions.of({**config.clip, **fixed}),
        storing=_storing(config.data),
        classes=_names(data, *next(iter(model.targets.classes.items()))),
        made=_made(data, checkpoint) if flow_options is None else read_flow_options(expand_path(flow_options)),
        data=data if isinstance(data, dict) else {},
    )


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


def _read_config(state: State, checkpoint: Path) -> _Config:
    try:
        return _Config.model_validate(state["config"])
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise UserError(f"{checkpoint}: not a checkpoint of train.py: its config: {where}: {problem['msg']}") from None


def _storing(data: _Stored) -> Storing:
    """What packing stored; only pixels that were scaled are others than those of the JPEGs."""
    frames, short_side = data.frames_per_clip, data.raw_short_side
    return Storing(None if frames == "all" else frames, Codec() if short_side is None else Codec("raw", short_side))


def _names(data: Any, target: str | None, num_classes: int) -> list[str] | None:
    trained = trained_classes(data)
    names = next(iter(trained.values()), None) if target is None else trained.get(target)
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
