"""A run's folder: config.yaml, metrics.jsonl, TensorBoard events, checkpoints, curves.png and summary.json."""

import json
import math
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import yaml

from configs.errors import ConfigError
from configs.files import append, atomic_write, make_folder, one_message, remove_scratch
from configs.schema import Config
from engine.checkpoint import State, config_differences, load_checkpoint, plain_config, save_checkpoint
from engine.curves import Curves
from engine.history import draw_history
from engine.records import read_config
from engine.reports import write_json

# What a resumed run may change: none of these says what is learned from which clip.
FREE_KEYS = (
    "runs",
    "data.shards",  # the loader itself refuses other clips
    "data.workers",
    "loader.num_threads",
    "loader.prefetch",
    "train.epochs",
    "train.checkpoint_every",
    "train.timeout",
    "train.tensorboard",
)
Record = dict[str, Any]


class RunLog:
    """Writes a run's folder, on the main rank alone; on the others it does nothing."""

    def __init__(self, config: Config, writes: bool) -> None:
        self.folder = config.runs / config.name
        self._config = plain_config(config)
        self._writes = writes
        self._num_lines = 0
        self._curves: Curves | None = None

    @property
    def best(self) -> Path:
        """The checkpoint with the highest validation accuracy."""
        return self.folder / "best.pt"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "last.pt"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, one line a log."""
        return self.folder / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """What the run came to; there only once it is finished."""
        return self.folder / "summary.json"

    @property
    def exists(self) -> bool:
        """Whether something has been written there before; a scratch file does not count."""
        return self.folder.is_dir() and any(not path.name.startswith(".") for path in self.folder.iterdir())

    @property
    def finished(self) -> bool:
        """Whether the run is over, with as many epochs as are wanted now."""
        if not self.summary.exists():
            return False
        before = read_config(self.folder)
        return bool(before["train"]["epochs"] == self._config["train"]["epochs"])

    def check(self, resume: bool) -> State | None:
        """Return what to resume from; None to start at the beginning.

        Raises:
            ConfigError: the folder is there and must not be, or the other way round, or its config is another one.
        """
        if not resume:
            if self.exists:
                raise ConfigError(
                    f"{self.folder}: this run exists already; go on with it by --resume, or choose another name=..."
                )
            return None
        if not (self.folder / "config.yaml").is_file():
            raise ConfigError(f"{self.folder}: there is no run to resume here; leave out --resume to start it")
        state = load_checkpoint(self.last) if self.last.exists() else None  # none: killed before its first checkpoint
        before = state["config"] if state else read_config(self.folder)
        changed = config_differences(before, self._config, FREE_KEYS)
        if changed:
            raise ConfigError(
                f"{self.folder}: --resume needs the config that the run began with; {'; '.join(changed)}; "
                "undo that, or start another run by name=..."
            )
        return state

    def open(self, state: State | None) -> None:
        """Begin to write: into a new folder, or behind what was logged up to `state`.

        Raises:
            UserError: the folder cannot be written to.
        """
        if not self._writes:
            return
        make_folder(self.folder)
        for folder in (self.folder, self.folder / "test"):
            remove_scratch(folder)
        with atomic_write(self.folder / "config.yaml", "w") as file:
            yaml.safe_dump(self._config, file, sort_keys=False)
        with one_message(self.folder):
            self._num_lines = self._truncate(state["metrics_lines"] if state else 0)
            self.summary.unlink(missing_ok=True)  # of the run as it was before it went on
        if self._config["train"]["tensorboard"]:
            first_step = state["counters"]["step"] + 1 if state else 1
            self._curves = Curves(self.folder / "tensorboard", first_step)

    def log(self, kind: str, record: Record) -> None:
        """Append a line to metrics.jsonl, and its numbers to TensorBoard as `kind`/name at record["step"]."""
        if not self._writes:
            return
        line = json.dumps({"kind": kind, **_finite(record)})
        append(self.metrics, f"{line}\n".encode())
        self._num_lines += 1
        if self._curves:
            numbers = {f"{kind}/{name}": value for name, value in record.items() if isinstance(value, float)}
            self._curves.add(numbers, record["step"])

    def show(self, name: str, draw: Callable[[IO[bytes]], None], step: int) -> None:
        """Give TensorBoard the picture that `draw` writes as a PNG; where there is none nothing is drawn."""
        if self._curves:
            file = BytesIO()
            draw(file)
            self._curves.show(name, file.getvalue(), step)

    def save_last(self, state: State) -> None:
        """Replace last.pt; a run resumed from it drops the lines logged after now."""
        if self._writes:
            self._sync_metrics()
            save_checkpoint(self.last, {**state, "config": self._config, "metrics_lines": self._num_lines})

    def save_best(self, state: State) -> None:
        """Replace best.pt."""
        if self._writes:
            save_checkpoint(self.best, {**state, "config": self._config})

    def summarize(self, summary: Record) -> None:
        """Write curves.png and summary.json."""
        if not self._writes:
            return
        draw_history(self.metrics, self.folder / "curves.png")
        with atomic_write(self.summary, "w") as file:
            write_json(file, summary)

    def _truncate(self, num_lines: int) -> int:
        """Keep the first `num_lines` lines of metrics.jsonl; return how many there are."""
        lines = self.metrics.read_bytes().splitlines(keepends=True)[:num_lines] if self.metrics.exists() else []
        with atomic_write(self.metrics) as file:
            file.writelines(lines)
        return len(lines)

    def _sync_metrics(self) -> None:
        """Put the lines on the disk before a checkpoint counts them."""
        with one_message(self.metrics), open(self.metrics, "rb") as file:
            os.fsync(file.fileno())


def _finite(record: Record) -> Record:
    """Replace what JSON has no number for (fp16 overflows a gradient now and then, and skips that step) by null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()
    }
