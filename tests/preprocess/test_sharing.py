"""Packing shared by several machines: a cluster that loses a worker, or its scheduler; always the same bytes."""

import re
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from configs import UserError
from configs.display import Display
from preprocess import cluster as clusters
from preprocess import pack
from tests.preprocess.cluster import cluster
from tests.trees import Video, write_annotations, write_video

Pack = Callable[..., int]
Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    write_tree(folder)
    return folder


def write_tree(folder: Path) -> None:
    """A hundred overlapping clips of one video, 12 MiB in a dozen shards."""
    clips = tuple((1 + n % 21, 20 + n % 21, n % 3) for n in range(100))
    video = Video("P01_01", height=128, width=160, clips=clips)
    write_video(folder / "frames", video)
    write_annotations(folder / "train.csv", [video])
    (folder / "config.yaml").write_text("name: test\n")


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


def contents(folder: Path) -> Contents:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_cluster_that_loses_a_worker_in_a_shard_writes_the_same_bytes(
    packed: Pack, whole: Contents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    packed: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 1)
    assert packed("--scheduler", "tcp://127.0.0.1:9") == 1
    assert "error: --scheduler tcp://127.0.0.1:9: no scheduler answers there" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert packed("--scheduler", "tcp://127.0.0.1:9") == 2
    assert "dask.distributed is not installed; it comes with this project's extra `cluster`" in capsys.readouterr().err


class ClosedClient:
    """What is left of a client whose scheduler is gone: results that were on their way never come."""

    status = "closed"
    dashboard_link = ""

    def nthreads(self) -> dict[str, int]:
        return {"tcp://127.0.0.1:1": 1}

    def get_executor(self, pure: bool) -> "ClosedClient":
        return self

    def submit(self, work: Callable[[int], int], task: int) -> "Future[int]":
        return Future()

    def shutdown(self, wait: bool) -> None:
        assert not wait

    def close(self) -> None:
        pass


def test_a_result_that_cannot_come_any_more_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_connect", lambda address: ClosedClient())
    with pytest.raises(UserError, match="the cluster's scheduler is gone; what was finished is kept"):
        with clusters.ClusterWorkers("tcp://127.0.0.1:1", Display(quiet=True)) as workers:
            workers.map(abs, [1], is_small=False)
