"""Packing shared by several machines: a cluster that loses a worker, slices, their locks; always the same bytes."""

import errno
import fcntl
import re
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from configs import UserError
from configs.display import Display
from configs.lock import locked
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
            list(workers.run(abs, [1], is_small=False))


def test_slices_in_any_order_and_the_last_command_write_the_same_bytes(
    packed: Pack, whole: Contents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shards" / "train"
    assert packed("--slice", "3/3") == 0
    assert packed("--slice", "1/3") == 0
    assert "this slice is complete" in capsys.readouterr().out
    assert sorted(path.stem for path in folder.glob("*.tfrecord"))[:4] == ["00000", "00002", "00003", "00005"]
    assert packed("--finish") == 1
    assert "shards are missing: 00001, 00004, 00007, 00010" in capsys.readouterr().err
    assert not (folder / "index.json").exists()
    assert packed("--slice", "2/3") == 0
    assert packed("--finish") == 0
    assert contents(folder) == whole
    assert packed("--slice", "2/3") == 0
    assert "complete, kept as it is" in capsys.readouterr().out
    assert contents(folder) == whole


def test_a_run_without_slices_does_what_the_slices_have_left(packed: Pack, whole: Contents, tmp_path: Path) -> None:
    assert packed("--slice", "1/2") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards/train").glob("*.tfrecord")}
    assert packed() == 0
    assert contents(tmp_path / "shards" / "train") == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0"])
def test_a_slice_that_does_not_exist_is_refused(text: str, packed: Pack, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        packed("--slice", text)
    assert f"found '{text}'; allowed: i/n, from 1/n to n/n" in capsys.readouterr().err


def test_slices_work_beside_each_other_and_beside_nobody_else(
    packed: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shards" / "train"
    folder.mkdir(parents=True)
    writing = folder / ".00001.tfrecord.7-aaaa.tmp"  # of another slice, at this moment
    with locked(folder, shared=True):
        writing.touch()
        assert packed("--slice", "1/2") == 0
        assert writing.exists()
        for whole_command in ([], ["--finish"]):
            assert packed(*whole_command) == 1
            assert "another process is writing here" in capsys.readouterr().err
    with locked(folder):
        assert packed("--slice", "1/2") == 1
    assert packed("--slice", "2/2") == 0
    assert packed("--finish") == 0
    assert not writing.exists()


def test_a_lock_that_its_holder_takes_along_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = fcntl.flock, []

    def flock(descriptor: int, kind: int) -> None:
        calls.append(kind)
        if len(calls) == 1:  # the holder ends between opening and locking
            (tmp_path / ".lock").unlink()
        real(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        assert len(calls) == 2
        with pytest.raises(UserError, match="another process is writing here"), locked(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        pass
    assert "this file system has no locks (No locks available); see to it that no second" in capsys.readouterr().err
