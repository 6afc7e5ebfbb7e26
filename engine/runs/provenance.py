"""Provenance in a checkpoint: class names of its training data, and how frames and flow were made."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError, listed
from engine.runs.checkpoint import State, config_differences
from pipeline.loader import ClipLoader

Names = Sequence[str] | None  # of a target's classes, in the order of their numbers; None: they have none
NOT_OF_THE_PIXELS = ("version", "packages")  # of extract.json: what made it, rather than how


def describe_data(loader: ClipLoader, actions: Tensor | None = None) -> State:
    """What goes into a checkpoint under `data`, as plain values; `actions` [A, 2] are the pairs that a head tells."""
    classes = {target: None if names is None else list(names) for target, names in loader.classes.items()}
    return {"classes": classes, "source": loader.source, "actions": None if actions is None else actions.tolist()}


def trained_actions(data: Any) -> Tensor | None:
    """The pairs of verb and noun [A, 2] in a checkpoint's `data` that a head tells; None where there are none."""
    pairs = data.get("actions") if isinstance(data, dict) else None
    return None if pairs is None else torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


def preprocessing(state: State) -> dict[str, Any]:
    """How a checkpoint's model wants its clips, as plain values for whoever has to make some."""
    clip, data = state["config"]["clip"], state.get("data")
    seen = {key: clip[key] for key in ("num_frames", "crop_size", "scale", "rescale_flow") if key in clip}
    source = data.get("source") if isinstance(data, dict) else None
    return {
        "rgb": "uint8 [B, 3, T, H, W], red first, 0 to 255",
        "flow": "uint8 [B, 2, T, H, W], u to the right, then v down; 127.5 is no motion, 0 is -bound, 255 is +bound",
        "frames": "T = num_frames, evenly spaced over the clip with its first and last",
        "window": "the centre of the frame, H = W = crop_size, the same in both streams",
        **seen,
        "made": source.get("options") if isinstance(source, dict) else None,
    }


def trained_classes(data: Any) -> dict[str, Names]:
    """The names in a checkpoint's `data`, by target; nothing of one that was written without or is damaged there."""
    classes = data.get("classes") if isinstance(data, dict) else None
    if not isinstance(classes, dict):
        return {}
    return {
        str(target): names
        for target, names in classes.items()
        if isinstance(names, list) and all(isinstance(name, str) for name in names)
    }


def adopt_classes(loader: ClipLoader, trained: Mapping[str, Names]) -> int:
    """Give the clips of `loader` the numbers that their classes have in training; return how many classes moved.

    Without names on one side the numbers are taken as they are, as everybody else does.

    Raises:
        UserError: clips have a class that training did not have.
    """
    moved = 0
    for target, names in [*loader.classes.items()]:
        known = trained.get(target)
        loader.classes[target] = names if known is None else tuple(known)
        if names is None or known is None or list(names) == list(known[: len(names)]):
            continue
        labels = loader.targets[target]
        present = np.unique(labels[labels >= 0])
        foreign = [names[label] for label in present if names[label] not in known]
        if foreign:
            raise UserError(
                f"{loader.split_dir}: clips of {listed(foreign)}, which training did not have; its classes of {target} "
                f"are {listed(known)}; leave those clips out, or train with them"
            )
        number = np.array([known.index(name) if name in known else -1 for name in names])
        moved += int((number[present] != present).sum())
        _renumber(loader, target, number)
    return moved


def _renumber(loader: ClipLoader, target: str, number: NDArray[np.int64]) -> None:
    before = loader.targets[target]
    after = np.where(before >= 0, number[before], before)
    loader.targets[target] = after
    if target == next(iter(loader.targets)):
        loader.labels = after


def source_differences(data: Any, loader: ClipLoader) -> list[str]:
    """How the frames and flow of `loader` were made otherwise than those of training, where both are on record."""
    before = data.get("source") if isinstance(data, dict) else None
    if not isinstance(before, dict) or loader.source is None:
        return []
    return config_differences(before, loader.source, NOT_OF_THE_PIXELS)


def differ(before: Names, now: Names) -> bool:
    """Whether classes have other names, where they have any."""
    return before is not None and now is not None and list(before) != list(now)


def class_names(names: Names, num_classes: int) -> list[str]:
    """A name for each class: its own, or its number."""
    known = list(names or [])[:num_classes]
    return [*known, *map(str, range(len(known), num_classes))]
