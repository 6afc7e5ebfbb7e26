"""The targets that a model predicts, as a split has them; actions are numbered by the training data."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import ConfigError, UserError
from configs.schema import TrainSection
from models.fusion import FusionModel
from models.targets import ACTION, NOUN, VERB, Targets
from pipeline.format.streams import UNKNOWN
from pipeline.loader import ClipLoader


def names_in(loader: ClipLoader, targets: Targets) -> list[str]:
    """The names of `targets` in a split, of which the first is called as the data call it.

    Raises:
        UserError: the split has no such target.
    """
    names = [next(iter(loader.targets)) if name is None else name for name in targets.classes]
    missing = [name for name in names if name not in loader.targets and not (name == ACTION and _has_pairs(loader))]
    if missing:
        raise UserError(
            f"{loader.split_dir}: its clips have no target {missing[0]!r}; they have: {', '.join(loader.targets)}; "
            "name one of these in model.targets, or pack with a preset that has it (data.presets)"
        )
    return names


def require_labels(model: FusionModel, *loaders: ClipLoader) -> None:
    """Refuse splits of which some clips have no label, for training and validation.

    Raises:
        UserError: with the split and how many.
    """
    for loader in loaders:
        for name in names_in(loader, model.targets):
            labels = loader.targets[name]
            num_unknown = int((labels == UNKNOWN).sum())
            if num_unknown:
                what = "label" if len(model.targets.classes) == 1 else name
                raise UserError(
                    f"{loader.split_dir}: {num_unknown} of {len(labels)} clips have no {what}, which training and "
                    "validation need; eval.py scores such a split into predictions"
                )


def check_sizes(model: FusionModel, loader: ClipLoader) -> None:
    """Refuse labels that the model has no class for.

    Raises:
        UserError: with the first such clip.
    """
    sizes = model.targets.classes.values()
    for name, size in zip(names_in(loader, model.targets), sizes, strict=True):
        labels = loader.targets.get(name)
        if labels is None:  # an action, which is numbered later
            continue
        highest = int(labels.argmax())
        if labels[highest] >= size:
            what, where = ("label", "") if len(sizes) == 1 else (name, f" for {name}")
            raise UserError(
                f"{loader.split_dir}: clip {loader.clip_ids[highest]} has {what} {labels[highest]}, but "
                f"model.num_classes is {size}{where}; labels run from 0 to num_classes - 1"
            )


def number_actions(model: FusionModel, *loaders: ClipLoader) -> None:
    """Number the pairs of verb and noun that are in the splits, for a model that has a head for them.

    Raises:
        ConfigError: the head has another number of classes.
    """
    targets = model.targets
    if ACTION not in targets.classes or not all(_has_pairs(loader) for loader in loaders):
        return
    pairs = np.unique(np.concatenate([_pairs(loader) for loader in loaders]), axis=0)
    pairs = pairs[(pairs != UNKNOWN).all(axis=1)]
    size = targets.classes[ACTION]
    if len(pairs) != size:
        raise ConfigError(
            f"model.num_classes: found {size} for {ACTION}; allowed: {len(pairs)}, the pairs of verb and noun in the "
            "clips to train and to validate on"
        )
    targets.actions = torch.from_numpy(pairs)


def shape_losses(model: FusionModel, loader: ClipLoader, settings: TrainSection) -> None:
    """Give the model's cross-entropies the label smoothing and the class weights of a training on these clips.

    A class of n clips weighs n ** -class_weights, times what makes the mean over the clips 1.
    """
    model.targets.label_smoothing = settings.label_smoothing
    if settings.class_weights == 0:
        return
    weights = []
    for name, size in zip(names_in(loader, model.targets), model.targets.classes.values(), strict=True):
        num_clips = np.bincount(loader.targets[name], minlength=size).astype(np.float64)
        weight = np.maximum(num_clips, 1) ** -settings.class_weights
        weights.append(weight * num_clips.sum() / (num_clips * weight).sum())
    device = next(model.parameters()).device
    model.targets.class_weights = torch.from_numpy(np.concatenate(weights)).float().to(device)


def add_actions(loader: ClipLoader, actions: Tensor | None) -> None:
    """Give the clips of a split their `action`: the row of `actions` [A, 2] that is their verb and noun, else -1."""
    if actions is None:
        return
    numbers = {tuple(pair): number for number, pair in enumerate(actions.tolist())}
    labels = [numbers.get(tuple(pair), UNKNOWN) for pair in _pairs(loader).tolist()]
    loader.targets[ACTION] = np.array(labels, dtype=np.int64)
    names = [loader.classes.get(name) for name in (VERB, NOUN)]
    loader.classes[ACTION] = tuple(
        " ".join(_name(known, number) for known, number in zip(names, pair, strict=True)) for pair in numbers
    )


def _name(names: Sequence[str] | None, number: int) -> str:
    return names[number] if names and number < len(names) else str(number)


def _has_pairs(loader: ClipLoader) -> bool:
    return ACTION not in loader.targets and {VERB, NOUN} <= loader.targets.keys()


def _pairs(loader: ClipLoader) -> NDArray[np.int64]:
    return np.stack([loader.targets[VERB], loader.targets[NOUN]], axis=1)
