"""A run's folder: config.yaml, metrics.jsonl, TensorBoard events, checkpoints, curves.png and summary.json."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import yaml

from common.errors import ConfigError, UserError
from common.files import as_user_error, atomic_write, make_folder, remove_scratch
from common.lock import locked
from configs.schema import Config
from engine.runs.checkpoint import (
    BEST,
    NEUTRAL_KEYS,
    State,
    changed_values,
    config_differences,
    load_checkpoint,
    plain_config,
    save_checkpoint,
)
from engine.runs.curves import draw_history
from engine.runs.metrics_log import LOG, MetricsLog, Record, read_log
from engine.runs.records import CONFIG, SUMMARY, commonest_share, read_config, read_summary, with_defaults
from engine.runs.tensorboard import EventFolder
from engine.scoring.reports import write_json

# What a run may go on with beside: how long it is trained. What is learned from which clip until then stays the same.
# A teacher is known by its weights, wherever they lie.
MAY_CHANGE = (*NEUTRAL_KEYS, "train.stop_patience", "model.teacher")
EPOCHS = "train.epochs"  # likewise, unless the rates of the steps so far depend on it
VERSION = 3  # of last.pt


class RunFolder:
    """Writes a run's folder, on the main rank alone; on the others it does nothing."""

    def __init__(self, config: Config, writes: bool) -> None:
        self.folder = config.runs / config.name
        self._config = plain_config(config)
        self._writes = writes
        self._lines = MetricsLog(self.metrics)
        self._splits: dict[str, int] = {}
        self._from_previous = False
        self._events: EventFolder | None = None

    @property
    def best(self) -> Path:
        """The checkpoint with the highest validation accuracy."""
        return self.folder / BEST

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "last.pt"

    @property
    def previous(self) -> Path:
        """The one before last.pt, for when that is damaged."""
        return self.folder / "last.prev.pt"

    @property
    def metrics(self) -> Path:
        """The log; see MetricsLog."""
        return self.folder / LOG

    @property
    def summary(self) -> Path:
        """What the run came to, when it was last finished."""
        return self.folder / SUMMARY

    @property
    def exists(self) -> bool:
        """Whether something has been written there before; a scratch file does not count."""
        return self.folder.is_dir() and any(not path.name.startswith(".") for path in self.folder.iterdir())

    @property
    def finished(self) -> bool:
        """Whether the run is over, with as many epochs and as much patience as are wanted now."""
        return self.summary.exists() and read_summary(self.folder).is_over(self._config["train"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder; if it is new and nothing is written there, it goes again.

        Raises:
            UserError: another process works there.
        """
        if not self._writes:
            yield
            return
        new = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        make_folder(self.folder)
        try:
            with locked(self.folder):
                yield
        finally:
            with suppress(OSError):  # it is not empty
                for folder in new:
                    folder.rmdir()

    def check(self, resume: bool) -> None:
        """Look at the folder alone, before anything is loaded.

        Raises:
            ConfigError: the folder is there and must not be, or the other way round, its config is another one, more
                epochs are trained than are wanted, or what it would go on from is missing.
        """
        if not resume:
            if self.exists:
                raise ConfigError(
                    f"{self.folder}: this run exists already; go on with it by --resume, or choose another name=..."
                )
            return
        if not (self.folder / CONFIG).is_file():
            raise ConfigError(f"{self.folder}: there is no run to resume here; leave out --resume to start it")
        self._check_config(read_config(self.folder))
        records = read_log(self.metrics)
        validated = max((record["epoch"] for record in records if record.get("kind") == "val"), default=0)
        wanted = self._config["train"]["epochs"]
        if validated > wanted:
            raise ConfigError(
                f"{self.folder}: train.epochs: found {wanted}, but {validated} epochs are trained already; "
                f"allowed: {validated} and more"
            )
        begun = max((record.get("epoch", 0) for record in records), default=0)
        if not (self.last.exists() or self.previous.exists() or self.finished) and (begun > 1 or self.best.exists()):
            raise ConfigError(
                f"{self.last}: missing, so that this run, which was in epoch {begun}, cannot go on; "
                "put it back, or start another run by name=..."
            )

    def load(self) -> State | None:
        """Return what to go on from: last.pt, or the one before where it is damaged; None before the first of them.

        Raises:
            UserError: neither can be read, or they are another version's or another config's.
        """
        if not (self.last.exists() or self.previous.exists()):
            return None
        try:
            state = load_checkpoint(self.last)
        except UserError as error:
            if not self.previous.exists():
                raise
            state = load_checkpoint(self.previous)
            self._from_previous = True
            warnings.warn(f"{error}; going on from the one before, {self.previous}", stacklevel=1)
        if state.get("version") != VERSION:
            raise UserError(
                f"{self.last}: of another version of train.py, which would go on otherwise; "
                "let that one finish the run, or start another by name=..."
            )
        self._check_config(state["config"])
        return state

    def check_splits(self, splits: dict[str, int], state: State | None) -> None:
        """Refuse splits, by their checksums, that are not those that the run began with.

        Raises:
            UserError: with their names.
        """
        before = state["splits"] if state else {}
        changed = [name for name, checksum in splits.items() if before.get(name, checksum) != checksum]
        if changed:
            raise UserError(
                f"{self.folder}: the shards of {' and '.join(changed)} are not those that this run began with; "
                "put those back (data.shards), or start another run by name=..."
            )

    def best_epoch(self) -> int:
        """The epoch that best.pt is of; 0: there is none that can be read."""
        try:
            return int(load_checkpoint(self.best)["epoch"])
        except (UserError, KeyError):
            return 0

    def _check_config(self, before: Mapping[str, Any]) -> None:
        free = MAY_CHANGE if self._config["train"]["schedule"] == "cosine" else (*MAY_CHANGE, EPOCHS)
        changed = config_differences(with_defaults(dict(before)), self._config, free)
        if changed:
            raise ConfigError(
                f"{self.folder}: --resume needs the config that the run began with; {'; '.join(changed)}; "
                "undo that, or start another run by name=..., from these weights by train.init_from"
            )

    def open(self, state: State | None, splits: dict[str, int]) -> None:
        """Begin to write: into a new folder, or after what was logged up to `state`.

        `splits` are the checksums of all that is trained and scored on.

        Raises:
            UserError: the folder cannot be written to.
        """
        self._splits = splits
        if not self._writes:
            return
        make_folder(self.folder)
        for folder in (self.folder, self.folder / "test"):
            remove_scratch(folder)
        with atomic_write(self.folder / CONFIG, "w") as file:
            yaml.safe_dump(self._config, file, sort_keys=False)
        with as_user_error(self.folder):
            if self._from_previous:
                os.replace(self.previous, self.last)
            self._lines.keep(state["metrics_lines"] if state else 0)
        if self._config["train"]["tensorboard"]:
            first_step = state["counters"]["step"] + 1 if state else 1
            self._events = EventFolder(self.folder / "tensorboard", first_step)
            hparams = changed_values({}, self._config, (*NEUTRAL_KEYS, "data.presets"))
            self._events.describe(self._config, {key: value for key, _, value in hparams})

    def log(self, kind: str, record: Record) -> None:
        """Append a line to metrics.jsonl, and its numbers to TensorBoard's sub-run `kind` at record["step"]."""
        if not self._writes:
            return
        self._lines.append(kind, record)
        numbers = {name: value for name, value in record.items() if isinstance(value, float)}
        if self._events and numbers:
            self._events.log(kind, numbers, record["step"])

    def show(self, name: str, draw: Callable[[IO[bytes]], None], step: int) -> None:
        """Give TensorBoard the image that `draw` writes as a PNG; without TensorBoard nothing is drawn."""
        if self._events:
            file = BytesIO()
            draw(file)
            self._events.show(name, file.getvalue(), step)

    def save_last(self, state: State) -> None:
        """Replace last.pt, and keep the one before; a run resumed from it drops the lines logged after now."""
        if self._writes:
            self._lines.sync()  # before a checkpoint counts them
            about = {"version": VERSION, "config": self._config, "splits": self._splits}
            about |= {"metrics_lines": self._lines.num_lines}
            save_checkpoint(self.last, {**state, **about}, previous=self.previous)

    def save_best(self, state: State) -> None:
        """Replace best.pt."""
        if self._writes:
            save_checkpoint(self.best, {**state, "config": self._config})

    def summarize(self, summary: Record) -> None:
        """Write curves.png and summary.json."""
        if not self._writes:
            return
        draw_history(self.metrics, self.folder / "curves.png", commonest_share(summary))
        with atomic_write(self.summary, "w") as file:
            write_json(file, summary)
