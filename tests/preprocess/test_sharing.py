"""Packing shared by several machines: a cluster that loses a worker, or its scheduler; always the same bytes."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.pack import contents, make_tree
from common.display import Display
from configs import UserError
from preprocess import cluster as clusters
from preprocess import pack
from preprocess.packing import pack_split as job
from preprocess.workers import Workers
from tests.conftest import Capture
from tests.preprocess.cluster import cluster
from tests.trees import Video, write_annotations, write_video

Pack = Callable[..., int]
Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"))


def packer(tree: Path, shards: Path) -> Pack:
    """pack.py with these frames and shards, and more arguments."""

    def run(*arguments: str) -> int:
        sizes = ("data.preset=none", "data.shard_mib=1", "data.check=header", "data.workers=1")
        paths = (f"data.frames={tree / 'frames'}", f"data.annotations={{train: [{tree / 'train.csv'}]}}")
        return pack.main(["-c", str(tree / "config.yaml"), *sizes, *paths, f"data.shards={shards}", *arguments])

    return run


@pytest.fixture
def packed(tree: Path, tmp_path: Path) -> Pack:
    return packer(tree, tmp_path / "shards")


@pytest.fixture(scope="module")
def whole(tree: Path) -> Contents:
    """The files of a run on this machine alone."""
    assert packer(tree, tree / "shards")() == 0
    found = contents(tree / "shards" / "train")
    assert len([name for name in found if name.endswith(".tfrecord")]) > 10
    return found


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_in_a_shard_writes_the_same_bytes(
    packed: Pack, whole: Contents, tmp_path: Path, capsys: Capture
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    with cluster(logs, deaths=[12, 0]) as found:  # the first worker dies in its second shard
        assert packed("--scheduler", found.address) == 0
        assert found.workers[0].wait(timeout=10) == -signal.SIGKILL
        assert found.workers[1].poll() is None
    told = rf"cluster {found.address}: 2 workers with 2 threads; dashboard: http://127\.0\.0\.1:(\d+)/status\n"
    (port,) = re.findall(told, capsys.readouterr().out)
    assert port != "8787"  # not the usual one, but the one that the scheduler took
    assert contents(tmp_path / "shards" / "train") == whole


def test_a_cluster_that_is_not_there_is_one_message(
    packed: Pack, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 1)
    assert packed("--scheduler", "tcp://127.0.0.1:9") == 1
    assert "error: --scheduler tcp://127.0.0.1:9: no scheduler answers there" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert packed("--scheduler", "tcp://127.0.0.1:9") == 2
    assert "dask.distributed is not installed; it comes with this project's extra `cluster`" in capsys.readouterr().err


class ClosedClient:
    """What is left of a client whose scheduler is gone: results that were on their way never come."""

    status = "closed"
    dashboard_link = ""
    scheduler = SimpleNamespace(address="tcp://127.0.0.1:1")

    def nthreads(self) -> dict[str, int]:
        return {"tcp://127.0.0.1:1": 1}

    def get_executor(self, pure: bool) -> "ClosedClient":
        return self

    def submit(self, work: Callable[[int], int], task: int) -> "Future[int]":
        return Future()

    def shutdown(self, wait: bool) -> None:
        assert not wait

    def close(self, timeout: int) -> None:
        raise OSError("nobody is there")


def test_a_result_that_cannot_come_any_more_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_connect", lambda address: ClosedClient())
    with pytest.raises(UserError, match="the cluster's scheduler is gone; what was finished is kept"):
        with clusters.ClusterWorkers("tcp://127.0.0.1:1", Display(quiet=True)) as workers:
            workers.map(abs, [1], is_small=False)


def test_a_port_that_never_answers_is_one_message(
    packed: Pack, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()
        assert packed("--scheduler", address) == 1
    assert time.monotonic() - begin < 10
    assert f"error: --scheduler {address}: no scheduler answers there (" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_scheduler_that_dies_or_freezes_is_one_message_within_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture, number: signal.Signals
) -> None:
    """A shard per clip, 300 of them, as pixels: the scheduler goes while most of them wait for the one worker."""
    monkeypatch.setattr(job, "MIB", 1)
    clips = tuple((1 + n % 21, 20 + n % 21, n % 3) for n in range(300))
    video = Video("P01_01", height=32, width=48, clips=clips)
    write_video(tmp_path / "frames", video)
    write_annotations(tmp_path / "train.csv", [video])
    (tmp_path / "config.yaml").write_text("name: test\n")
    (tmp_path / "logs").mkdir()
    signalled = []

    def strike(scheduler: subprocess.Popen[bytes]) -> None:
        while not list(tmp_path.glob("shards/train/*.part.npz")):
            time.sleep(0.01)
        scheduler.send_signal(number)
        signalled.append(time.monotonic())

    with cluster(tmp_path / "logs", deaths=[0]) as found:
        threading.Thread(target=strike, args=(found.scheduler,)).start()
        assert packer(tmp_path, tmp_path / "shards")("--scheduler", found.address, "data.codec=raw") == 1
        seconds = time.monotonic() - signalled[0]
        found.scheduler.send_signal(signal.SIGCONT)
    said = capfd.readouterr().err
    assert said == f"error: {clusters.GONE}\n"
    assert seconds < 10


def test_few_tasks_for_each_process_are_under_way_at_a_time() -> None:
    under_way, most = 0, 0

    class Counting(ThreadPoolExecutor):
        def submit(self, *arguments: Any) -> "Future[Any]":  # type: ignore[override]
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            return super().submit(*arguments)

    class Counted(Workers):
        def _start(self) -> Executor:
            return Counting(2)

    def note(done: int | None) -> None:
        nonlocal under_way
        under_way -= done is not None

    with Counted(2) as workers:
        assert workers.map(abs, range(-2000, 0), False, note) == list(range(2000, 0, -1))
    assert most <= 9  # four per process, and one that is handed out before the one that ended is counted
