"""TensorBoard event files, written synchronously: what was added is on file, a full disk is one message."""

import os
import socket
import struct
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from common.files import append, make_folder

PNG_SIZE, PNG_SIZE_AT = struct.Struct(">II"), 16  # where a PNG file has its width and height
RGB = 3  # colorspace of TensorBoard's images


SAME_CURVE = {"accuracy": "top1"}  # what is called otherwise in training than in validation


class EventFolder:
    """A run's events: the sub-run of each kind of log is a folder, so that one chart has a metric of all of them.

    Args:
        folder: where TensorBoard reads; made if it is not there.
        first_step: of what is added; see EventFile.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._folder, self._first_step = folder, first_step
        self._files: dict[str, EventFile] = {}

    def log(self, kind: str, numbers: Mapping[str, float], step: int) -> None:
        """Add a point to each of the curves that are named, in the sub-run `kind`."""
        self._file(kind).add({SAME_CURVE.get(name, name): number for name, number in numbers.items()}, step)

    def show(self, name: str, png: bytes, step: int) -> None:
        """Add an image, the bytes of a PNG file; `name` is that of the sub-run, and its own after a slash."""
        kind, _, name = name.partition("/")
        self._file(kind).show(name, png, step)

    def describe(self, config: Mapping[str, Any], hparams: Mapping[str, Any]) -> None:
        """Add the config as text, and what of it is shown beside other runs, to the run itself."""
        self._file("").describe(config, hparams, self._first_step)

    def _file(self, kind: str) -> "EventFile":
        if kind not in self._files:
            self._files[kind] = EventFile(self._folder / kind, self._first_step)
        return self._files[kind]


class EventFile:
    """Appends to one events file.

    torch's SummaryWriter does so in a thread of its own, which prints a traceback where the disk is full, and holds
    back up to two minutes of what a killed process had added.

    Args:
        folder: where TensorBoard reads; made if it is not there.
        first_step: TensorBoard leaves out what earlier files in `folder` have from this step on.

    Raises:
        UserError: the folder cannot be written to; so does `add`.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # here: --help need not wait for it
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._writer = Event, Summary, RecordWriter
        self._path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        make_folder(folder)
        start = SessionLog(status=SessionLog.START)
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._append(Event(wall_time=time.time(), step=first_step, session_log=start))

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        """Add a point to each of the curves that are named."""
        values = [self._summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        self._append(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def describe(self, config: Mapping[str, Any], hparams: Mapping[str, Any], step: int) -> None:
        """Add a config as text, and `hparams` (dotted key -> plain value) for the table of hyperparameters."""
        from torch.utils.tensorboard.summary import hparams as as_hparams
        from torch.utils.tensorboard.summary import text

        values = {key: value if isinstance(value, int | float) else str(value) for key, value in hparams.items()}
        _, start, _ = as_hparams(values, {})  # type: ignore[no-untyped-call]  # without a list of metrics all are shown
        document = yaml.safe_dump(dict(config), sort_keys=False)
        for summary in (start, text("config", f"```yaml\n{document}```")):  # type: ignore[no-untyped-call]
            self._append(self._event(wall_time=time.time(), step=step, summary=summary))

    def show(self, name: str, png: bytes, step: int) -> None:
        """Add an image, the bytes of a PNG file."""
        width, height = PNG_SIZE.unpack_from(png, PNG_SIZE_AT)
        image = self._summary.Image(height=height, width=width, colorspace=RGB, encoded_image_string=png)
        value = self._summary.Value(tag=name, image=image)
        self._append(self._event(wall_time=time.time(), step=step, summary=self._summary(value=[value])))

    def _append(self, event: Any) -> None:
        record = BytesIO()
        self._writer(record).write(event.SerializeToString())
        append(self._path, record.getbuffer())
