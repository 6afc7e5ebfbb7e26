"""A run's metrics.jsonl: one JSON object a line, one line a log; the last one may have been cut off."""

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.files import append, as_user_error, atomic_write

LOG = "metrics.jsonl"
Record = dict[str, Any]


def read_log(path: Path) -> list[Record]:
    """The lines that are whole: power that fails can cut the last one off in its middle. None where no file is."""
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records


class MetricsLog:
    """Appends to a metrics.jsonl, and counts its lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_lines = 0

    def keep(self, num_lines: int) -> None:
        """Keep the first `num_lines` lines, of those that are whole, and go on after them.

        Raises:
            UserError: the system refuses to write there.
        """
        records = read_log(self.path)[:num_lines]
        with atomic_write(self.path, "w") as file:
            file.writelines(f"{json.dumps(record)}\n" for record in records)
        self.num_lines = len(records)

    def append(self, kind: str, record: Record) -> None:
        """Add a line.

        Raises:
            UserError: the system refuses to write there.
        """
        # JSON has no number for what is not finite: fp16 overflows a gradient now and then, and skips that step.
        valid = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in record.items()
        }
        line = json.dumps({"kind": kind, **valid})
        append(self.path, f"{line}\n".encode())
        self.num_lines += 1

    def sync(self) -> None:
        """Put the lines on the disk.

        Raises:
            UserError: the system refuses.
        """
        with as_user_error(self.path), open(self.path, "rb") as file:
            os.fsync(file.fileno())
