"""Loaders of a run's splits, as the config and the model describe them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from common.errors import ConfigError
from configs.schema import Config, LoaderSection
from engine.runs.provenance import Names, adopt_classes
from engine.runtime.session import RunContext
from engine.targets import add_actions, check_sizes
from models.fusion import FusionModel
from pipeline.loader import ClipLoader
from pipeline.views import SINGLE_VIEW, MultiView

LEAST_SEEN = 1 / 3  # of a frame, or it is said


def check_split(config: Config, split: str) -> None:
    """Refuse a split that the config does not name.

    Raises:
        ConfigError: with the splits that there are.
    """
    named = config.data.annotations.splits()
    if split not in named:
        raise ConfigError(f"data.annotations: names no {split} split; named: {', '.join(named) or 'none'}")


def open_loader(
    config: Config,
    split: str,
    model: FusionModel,
    session: RunContext,
    train: bool = False,
    clips: Sequence[int] | None = None,
    multi_view: MultiView = SINGLE_VIEW,
    classes: Mapping[str, Names] | None = None,
) -> ClipLoader:
    """Open `split`, decoding the streams of `model`: for training, or to score each clip once.

    `clips` are positions in the split, all of it by default; `multi_view` says how many views per clip are scored;
    `classes` are the names that the model was trained with, by target: clips get the numbers of these.

    Raises:
        UserError: the split is missing or damaged, or has labels that the model has no class for.
    """
    check_split(config, split)
    world = session.world
    loader = ClipLoader.from_config(
        config,
        split,
        batch_size=world.local_batch_size(config.loader.batch_size),
        train=train,
        **decoding(config.loader, session.placement.device),
        rank=world.rank,
        world_size=world.size,
        streams=model.decoded(train),
        clips=clips,
        views=multi_view.num_temporal,
        crops=multi_view.num_spatial,
    )
    _note_differences(config, loader, session, train)
    match_classes(loader, classes or {}, session)
    add_actions(loader, model.targets.actions)
    check_sizes(model, loader)
    return loader


def decoding(settings: LoaderSection, model_device: torch.device) -> dict[str, str]:
    """A ClipLoader's `device` and `decoder`, for a model on that device.

    Where frames are decoded on the CPU (loader.device) for a GPU, the pool uploads them as it goes.
    """
    if settings.device == "cpu" and settings.decoder != "dali" and model_device.type == "cuda":
        return {"device": str(model_device), "decoder": "turbojpeg"}
    return {"device": str(model_device) if settings.device == "auto" else settings.device, "decoder": settings.decoder}


def match_classes(loader: ClipLoader, classes: Mapping[str, Names], session: RunContext) -> None:
    """Give the clips the numbers that classes of these names have in training, and say so where they had others.

    Raises:
        UserError: clips have a class that training does not have.
    """
    moved = adopt_classes(loader, classes)
    if moved:
        session.display.print(
            f"note: {loader.split_dir} numbers {moved} of its classes otherwise; matched by their names"
        )


def _note_differences(config: Config, loader: ClipLoader, session: RunContext, train: bool) -> None:
    """Say where the config describes other shards than those that are read, or wants what they cannot give."""
    for key in ("preset", "frames_per_clip"):
        packed, wanted = loader.packed_with.get(key), getattr(config.data, key)
        if packed is not None and packed != wanted:
            session.display.print(f"note: {loader.split_dir} was packed with data.{key}={packed}, not {wanted}")
    stored = int(np.diff(loader.table.first_frame).max())
    if stored < config.clip.num_frames:
        session.display.print(
            f"note: {loader.split_dir} stores {stored} frames per clip, fewer than clip.num_frames="
            f"{config.clip.num_frames}: some are seen repeatedly; pack with more (data.frames_per_clip), or lower it"
        )
    elif train and config.clip.temporal == "jitter" and stored == config.clip.num_frames:
        session.display.print(
            f"note: clip.temporal=jitter has no effect: {loader.split_dir} stores no more than clip.num_frames="
            f"{stored} frames per clip; pack with data.frames_per_clip=all"
        )
    if not train:
        _note_small_window(config, loader, session)
    if loader.multi_view.num_temporal > 1 and stored <= config.clip.num_frames:
        session.display.print(
            f"note: --views {loader.multi_view.num_temporal} sees the same frames over and over: {loader.split_dir} "
            f"stores no more than clip.num_frames={config.clip.num_frames} frames per clip; "
            "pack with data.frames_per_clip=all"
        )


def _note_small_window(config: Config, loader: ClipLoader, session: RunContext) -> None:
    """Say when scoring would see less than a third of the frames, counted in area."""
    height, width = (int(np.median(side)) for side in (loader.table.height, loader.table.width))
    short, crop = min(height, width), config.clip.crop_size
    is_scaled = tuple(config.clip.scale) != (1, 1)
    side = short * sum(config.clip.scale) / 2 if is_scaled else min(crop, short)
    along = min(max(height, width), side * loader.multi_view.num_spatial)  # crops lie side by side, at the most
    seen = side * along / (height * width)
    if seen < LEAST_SEEN:
        session.display.print(
            f"note: {loader.split_dir}: scoring sees {seen:.0%} of a frame, {side:.0f} x {side:.0f} of {width} x "
            f"{height} pixels; pack smaller frames (extract.py --short-side 256), or set clip.scale=[0.8,1.0], which "
            "scales a larger window down"
        )
