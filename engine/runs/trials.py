"""How many configurations of a method were tried: a method that was tuned longer looks better than it is."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from common.errors import ConfigError
from engine.runs.checkpoint import State, changed_values
from engine.runs.records import CONFIG, SEEDS, read_config, with_defaults


def count_trials(config: State, begun: Sequence[State]) -> int:
    """Count the configurations of `config`'s method among `begun`, the runs of a folder, that are of the same data.

    Runs that differ by their seed, or by what changes no number, are one trial. What was removed, or trained elsewhere,
    cannot be counted: it is a lower bound.
    """
    trials: list[State] = []
    for other in map(with_defaults, (config, *begun)):
        same_method = other["model"]["fusion"] == config["model"]["fusion"]
        if not same_method or _data(other) != _data(config):
            continue
        if all(changed_values(trial, other, SEEDS) for trial in trials):
            trials.append(other)
    return len(trials)


def configs_in(folder: Path) -> list[State]:
    """The configs of the runs in a folder; one that is damaged is no reason to end what counts."""
    configs = []
    for path in sorted(folder.glob(f"*/{CONFIG}")):
        with suppress(ConfigError):
            configs.append(read_config(path.parent))
    return configs


def _data(config: State) -> tuple[object, ...]:
    data = config.get("data", {})
    return data.get("annotations"), data.get("preset")
