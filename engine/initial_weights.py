"""Weights that a run starts from: all of other runs' that fits, and a report of what was taken and what was not."""

from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError, listed
from engine.runs.checkpoint import State
from engine.runs.provenance import differ, trained_classes
from engine.targets import names_in
from models.checkpoint import class_layers, collapse, load_fitting, read_checkpoint, require_state
from models.fusion import FusionModel
from pipeline.loader import ClipLoader

MOST_LISTED = 12  # modules in a line


def take_weights(model: FusionModel, paths: Sequence[Path], loader: ClipLoader) -> list[State]:
    """Load what fits of each file by name and shape, the later over the earlier; return a record of each.

    Layers of classes stay new where the file's classes have other names than those of `loader`, which is trained on.
    Modules that are whole stand for their weights in a record: "taken", "new" (the model's alone, or of another shape
    or other classes) and "unused" (the file's alone).

    Raises:
        UserError: a file cannot be read, or nothing of it fits.
    """
    return [_take(model, path, loader) for path in paths]


def _take(model: FusionModel, path: Path, loader: ClipLoader) -> State:
    content = read_checkpoint(path)
    state = require_state(content, path)
    before = trained_classes(content.get("data"))
    others = [name for name in names_in(loader, model.targets) if differ(before.get(name), loader.classes.get(name))]
    found = load_fitting(model, state, class_layers(model) if others else ())
    own = list(model.state_dict())
    if not found.fitting:
        raise UserError(
            f"{path}: train.init_from: none of its weights fits this model; it has {listed(collapse(state, state))}, "
            f"the model {listed(collapse(own, own))}; a trunk's weights alone go into model.pretrained"
        )
    new = [name for name in own if name not in found.fitting]
    return {
        "file": str(path),
        "taken": collapse(found.fitting, own),
        "new": collapse(new, own),
        "unused": collapse(found.unknown, state),
        "other_classes": others,
    }


def describe(record: State) -> str:
    """Put a record into words, in a line."""
    parts = [f"{key}: {listed(record[key], MOST_LISTED)}" for key in ("taken", "new", "unused") if record[key]]
    if record["other_classes"]:
        parts.append(f"its classes of {', '.join(record['other_classes'])} are others")
    return f"{record['file']}: {'; '.join(parts)}"
