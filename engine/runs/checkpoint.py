"""Checkpoints: files of tensors and plain values, written atomically and never unpickled."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from common.files import atomic_write
from configs.schema import Config
from models.checkpoint import read_checkpoint

State = dict[str, Any]
BEST = "best.pt"  # of a run's folder
EXPORTED = "model.safetensors"  # of the folder that engine.export writes

# What changes no number of a run: what things are called and where they lie, how fast it goes, how often it writes. A
# run may go on with others, and runs that differ in these alone are compared. What shards hold has its own checksums.
NEUTRAL_KEYS = (
    *("name", "runs", "data.frames", "data.annotations", "data.shards", "data.workers", "data.check", "data.shard_mib"),
    *("loader.num_threads", "loader.prefetch"),
    *("train.log_every", "train.checkpoint_every", "train.tensorboard", "train.timeout"),
)


def save_checkpoint(path: Path, state: State | list[State], previous: Path | None = None) -> None:
    """Write `state` (dicts and lists of tensors, numbers, strings, None) to `path`; it is on the disk on return.

    The checkpoint that stood there takes the name `previous`, if that is given.

    Raises:
        UserError: the disk is full, or the folder cannot be written to; what was at `path` stays.
    """
    with atomic_write(path, previous=previous) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # that torch cannot end a file which the disk has refused, and nothing of why
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def find_checkpoint(run: Path) -> Path:
    """The checkpoint that a command means by a run's folder (its best.pt), an exported one, or a checkpoint itself.

    Raises:
        UserError: there is none.
    """
    found = (run / name for name in (BEST, EXPORTED) if (run / name).is_file())
    checkpoint = next(found, run / BEST) if run.is_dir() else run
    if not checkpoint.is_file():
        raise UserError(
            f"{checkpoint}: no such checkpoint; allowed: a folder that has {BEST} or {EXPORTED}, or such a file"
        )
    return checkpoint


def load_checkpoint(path: Path) -> State:
    """Read onto the CPU what train.py saved, or engine.export wrote of it.

    Raises:
        UserError: it is missing, damaged, holds objects that only running code could restore, or is something else.
    """
    state = read_checkpoint(path)
    if not isinstance(state, dict) or not {"model", "config"} <= state.keys():
        raise UserError(f"{path}: not a checkpoint of train.py: it holds no model with its config")
    return state


def plain_config(config: Config) -> State:
    """Return a config as dicts, lists, numbers and strings."""
    return config.model_dump(mode="json")


def config_differences(before: Mapping[str, Any], now: Mapping[str, Any], free: tuple[str, ...] = ()) -> list[str]:
    """Return `key: was A, is B` for each value that changed; the keys in `free` (and below them) may."""
    return [f"{key}: was {old!r}, is {new!r}" for key, old, new in changed_values(before, now, free)]


def changed_values(
    before: Mapping[str, Any], now: Mapping[str, Any], free: tuple[str, ...] = ()
) -> list[tuple[str, Any, Any]]:
    """Return (dotted key, old, new) for each value that changed, None where there is none, but for `free` keys."""
    old, new = dict(_flat(before)), dict(_flat(now))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [
        (key, old.get(key), new.get(key))
        for key in changed
        if not any(key == name or key.startswith(name + ".") for name in free)
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
