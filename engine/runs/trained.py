"""Models of other runs, built from their checkpoints: to predict with, or to learn from in a training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.safe_yaml import read_yaml
from engine.runs.checkpoint import State, find_checkpoint, load_checkpoint
from engine.runs.provenance import Names, differ, trained_classes
from engine.runs.records import CONFIG
from engine.runtime.agreement import file_checksum, require_agreement
from engine.runtime.session import RunContext
from models import build_model
from models.checkpoint import load_state
from models.fusion import FusionModel
from models.targets import Targets


def model_of(state: State, checkpoint: Path) -> FusionModel:
    """Build the model of a checkpoint of train.py, with its weights.

    A method from outside is run where the run's own config.yaml names it, which stands beside: never because a
    checkpoint says so.

    Raises:
        UserError: the checkpoint is not one of train.py, does not fit, or alone names a method from outside.
    """
    options = state["config"].get("model") if isinstance(state["config"], dict) else None
    if not isinstance(options, dict) or "fusion" not in options:
        raise UserError(f"{checkpoint}: not a checkpoint of train.py: its config has no model section")
    fusion = str(options["fusion"])
    if ":" in fusion and _named_beside(checkpoint) != fusion:
        raise UserError(
            f"{checkpoint}: its method is {fusion}, which would be run; that is done only where the {CONFIG} beside it "
            "names it, too"
        )
    model = build_model(**options | {"pretrained": None})
    load_state(model, state["model"], str(checkpoint))
    return model


def _named_beside(checkpoint: Path) -> Any:
    try:
        return read_yaml(checkpoint.parent / CONFIG)["model"]["fusion"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


@dataclass(frozen=True)
class OtherRuns:
    """Implements models.fusion.Training for a run on clips with these targets and names of classes."""

    session: RunContext
    targets: Targets
    classes: Mapping[str, Names]

    def load_run(self, path: Path) -> FusionModel:
        """Load a run's best weights, frozen; see models.fusion.Training.

        Raises:
            UserError: it cannot be read, is not the same on all ranks, or was trained on other classes.
        """
        require_agreement(self.session.world, lambda: {f"the file {path}": file_checksum(find_checkpoint(path))})
        checkpoint = find_checkpoint(path)
        state = load_checkpoint(checkpoint)
        model = model_of(state, checkpoint)
        named = trained_classes(state.get("data"))
        sizes, wanted = ([*targets.classes.values()] for targets in (model.targets, self.targets))
        others = [name for name, names in self.classes.items() if differ(named.get(name), names)]
        if sizes != wanted or others:
            what = f"has {sizes} classes, not {wanted}" if sizes != wanted else f"its classes of {others[0]} are others"
            raise UserError(f"{checkpoint}: {what}; a run learns from one that was trained on the same classes")
        return self.session.placement.move(model).eval().requires_grad_(False)
