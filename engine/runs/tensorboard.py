"""TensorBoard event files, written synchronously: what was added is on file, a full disk is one message."""

import os
import socket
import struct
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from common.files import append, make_folder

PNG_SIZE, PNG_SIZE_AT = struct.Struct(">II"), 16  # where a PNG file has its width and height
RGB = 3  # colorspace of TensorBoard's images


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
