"""Models of runs, built from their checkpoints: to score, to predict with, or to learn from in a training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError, UserError
from common.safe_yaml import read_yaml
from configs.schema import Config
from engine.runs.checkpoint import State, config_differences, find_checkpoint, load_checkpoint, plain_config
from engine.runs.provenance import Names, differ, trained_classes
from engine.runs.records import CONFIG, with_defaults
from engine.runtime.agreement import file_checksum, require_agreement
from engine.runtime.session import RunContext
from models import build_model
from models.checkpoint import load_published, load_state, read_checkpoint, require_state
from models.fusion import FusionModel
from models.targets import Targets

AUGMENTATIONS = ("temporal", "mirror", "color")  # of training alone, without effect on evaluation


def model_of(state: State, checkpoint: Path) -> FusionModel:
    """Build the model of a checkpoint of train.py, with its weights.

    A method from outside is run where the run's own config.yaml names it, which stands beside: never because a
    checkpoint says so.

    Raises:
        UserError: the checkpoint is not one of train.py, does not fit, or alone names a method from outside.
    """
    options = _model_section(state, checkpoint)
    fusion = str(options["fusion"])
    if ":" in fusion and _named_beside(checkpoint) != fusion:
        raise UserError(
            f"{checkpoint}: its method is {fusion}, which would be run; that is done only where the {CONFIG} beside it "
            "names it, too"
        )
    model = build_model(**options | {"pretrained": None})
    load_state(model, state["model"], str(checkpoint))
    return model


def read_state(checkpoint: Path) -> State:
    """Read a checkpoint of train.py, or of another one the weights alone, as "model".

    Raises:
        UserError: it cannot be read, or there are no weights in it.
    """
    content = read_checkpoint(checkpoint)
    weights = require_state(content, checkpoint)
    return {**content, "model": weights} if {"model", "config"} <= content.keys() else {"model": weights}


def configured_model(config: Config, state: State, checkpoint: Path) -> tuple[FusionModel, list[str]]:
    """Build the model of `config` with what `read_state` found, train.py's weights or the published code's.

    Also returns how the clips of `config` are seen otherwise than in training.

    Raises:
        ConfigError: train.py trained another model section.
        UserError: the weights do not fit.
    """
    model = build_model(**config.model.model_dump() | {"pretrained": None})
    if "config" not in state:
        load_published(model, state["model"], str(checkpoint))
        return model, []
    _model_section(state, checkpoint)
    trained, given = with_defaults(state["config"]), plain_config(config)
    # Where the first weights and the teacher's came from does not matter any more.
    changed = config_differences(trained["model"], given["model"], free=("pretrained", "teacher"))
    if changed:
        raise ConfigError(f"{checkpoint}: was trained with another model section: {'; '.join(changed)}")
    seen = config_differences(trained.get("clip", {}), given["clip"], free=AUGMENTATIONS)
    load_state(model, state["model"], str(checkpoint))
    return model, [f"clip.{difference}" for difference in seen]


def _model_section(state: State, checkpoint: Path) -> dict[str, Any]:
    options = state["config"].get("model") if isinstance(state["config"], dict) else None
    if not isinstance(options, dict) or "fusion" not in options:
        raise UserError(f"{checkpoint}: not a checkpoint of train.py: its config has no model section")
    return options


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
