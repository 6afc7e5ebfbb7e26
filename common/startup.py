"""What a command does first, before its imports, which take seconds, and before it prints."""

import errno
import io
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from common.cores import wait_passively
from common.memory import is_shortage, oom_message

READER_IS_GONE = (errno.EPIPE, errno.EIO)  # a pipe that was closed, a terminal that was
COMMANDS = {
    "xnorm-extract": "preprocess.extract",
    "xnorm-pack": "preprocess.pack",
    "xnorm-train": "train",
    "xnorm-eval": "eval",
    "xnorm-predict": "predict",
    "xnorm-profile": "pipeline.profile.__main__",
    "xnorm-inspect": "pipeline.inspect.__main__",
}


class _LastingOutput(io.FileIO):
    """A standard stream that drops what is written once nobody reads it, so that the work goes on."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in READER_IS_GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # for libraries that print by themselves, too
            os.close(nowhere)
            return memoryview(data).nbytes


def begin() -> None:
    """Let Ctrl-C end the imports without a traceback, threads wait asleep, and output lose its reader or a sign."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until exit_code_of() takes over
    sys.excepthook = _tell
    wait_passively()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by a shell, >&-
            stream = open(os.open(os.devnull, os.O_WRONLY), "w", closefd=False)  # noqa: SIM115
        stream.flush()
        raw = io.BufferedWriter(_LastingOutput(stream.fileno(), "w", closefd=False))
        errors = "replace" if name == "stdout" else stream.errors
        lasting = io.TextIOWrapper(raw, stream.encoding, errors, None, stream.line_buffering, stream.write_through)
        setattr(sys, name, lasting)


def run() -> int:
    """Run the installed command that this process was started as."""
    begin()
    return int(import_module(COMMANDS[Path(sys.argv[0]).stem]).main())


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in a line that there is too little memory even to import; all else that nobody caught is a fault of ours."""
    if is_shortage(error):
        print(f"error: {oom_message(error)}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
