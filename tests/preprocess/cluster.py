"""A dask.distributed cluster on this machine; one of its workers can be made to die in the middle of a shard."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIE_AT = "TEST_WORKER_DIES_AT_CLIP"  # environment variable: the number of the clip that its process does not survive


@dataclass
class Cluster:
    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def cluster(folder: Path, deaths: Sequence[int]) -> Iterator[Cluster]:
    """A scheduler and a worker of one thread for each of `deaths`, the clip that it dies at, or 0."""
    file = folder / "scheduler.json"
    tool = [sys.executable, "-m", "tests.preprocess.cluster"]
    scheduler = [*tool, "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    worker = [*tool, "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
    started = []

    def start(command: list[str], death: int = 0) -> subprocess.Popen[bytes]:
        environment = os.environ | {DIE_AT: str(death)}
        with open(folder / f"{len(started)}.log", "wb") as log:
            started.append(
                subprocess.Popen([*command, "--scheduler-file", str(file)], cwd=ROOT, env=environment, stderr=log)
            )
        return started[-1]

    try:
        first = start(scheduler)
        workers = [start(worker, death) for death in deaths]
        end = time.monotonic() + 60
        logs = [folder / f"{number + 1}.log" for number in range(len(deaths))]
        while not all("Starting established connection" in log.read_text() for log in logs):
            assert time.monotonic() < end, [log.read_text() for log in logs]
            time.sleep(0.1)
        yield Cluster(json.loads(file.read_text())["address"], first, workers)
    finally:
        for process in started:
            process.kill()
            process.wait()


def die_at(clip: int) -> None:
    """Let this process be killed, as by kill -9, in place of reading the clip of that number."""
    from preprocess.packing import shard_writer as writer

    real, read = writer.read_clip, 0

    def read_clip(*arguments: object) -> object:
        nonlocal read
        read += 1
        if read == clip:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)  # type: ignore[arg-type]

    writer.read_clip = read_clip  # type: ignore[assignment]


if __name__ == "__main__":
    from dask.__main__ import main

    die_at(int(os.environ[DIE_AT]))
    sys.exit(main())
