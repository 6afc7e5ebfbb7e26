"""How many configurations of a method were tried: a method that was tuned longer looks better than it is."""

from collections.abc import Sequence
from pathlib import Path

from common.errors import ConfigError
from engine.runs.checkpoint import State, changed_values
from engine.runs.records import CONFIG, SEEDS, read_config, with_defaults


def count_trials(config: State, folder: Path) -> int:
    """Count the configurations of `config`'s method in `folder`, a folder of runs, that were begun on the same data.

    Runs that differ by their seed, or by what changes no number, are one trial. What was removed, or trained elsewhere,
    cannot be counted: it is a lower bound.
    """
    return _count_distinct(config, [with_defaults(each) for each in (config, *_configs_in(folder))])


def _configs_in(folder: Path) -> list[State]:
    configs = []
    for path in sorted(folder.glob(f"*/{CONFIG}")):
        try:
            configs.append(read_config(path.parent))
        except ConfigError:  # damaged, and no reason to end what counts
            continue
    return configs


def _count_distinct(config: State, configs: Sequence[State]) -> int:
    trials: list[State] = []
    for other in configs:
        same_method = other["model"]["fusion"] == config["model"]["fusion"]
        if not same_method or _data(other) != _data(config):
            continue
        if all(changed_values(trial, other, SEEDS) for trial in trials):
            trials.append(other)
    return len(trials)


def _data(config: State) -> tuple[object, ...]:
    data = config.get("data", {})
    return data.get("annotations"), data.get("preset")
