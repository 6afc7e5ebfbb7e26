"""Packing that is interrupted: the same command ends with the bytes of a run that never was."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from chaos.pack import Packing, children, command, make_tree
from common.errors import UserError
from pipeline.format.split import open_split
from preprocess.workers import Workers
from tests.trees import Video, write_annotations, write_video


@pytest.fixture(scope="module")
def packing(tmp_path_factory: pytest.TempPathFactory) -> Packing:
    """A dozen shards, packed without an interruption."""
    packing = Packing.of(make_tree(tmp_path_factory.mktemp("big")))
    split = open_split(packing.tree / "whole" / "train")
    assert len(split.shard_paths) > 10
    assert split.index.num_clips == 100
    return packing


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(3))
def test_killed_at_a_random_time_it_ends_with_the_same_bytes(packing: Packing, tmp_path: Path, kill: int) -> None:
    share = float(np.random.default_rng().uniform(0, 1))
    packing.interrupt(tmp_path, share, signal.SIGKILL)
    assert packing.difference(tmp_path) is None, f"killed at {share:.3f} of the shards"


def wait_for(condition, pause: float = 0.02) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(pause)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(packing: Packing, tmp_path: Path, number: signal.Signals) -> None:
    process = packing.start(tmp_path)
    wait_for(lambda: list(tmp_path.glob("train/.*.tfrecord.*.tmp")), 0.001)  # the first shards are under way
    started = children(process.pid)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert error.strip() == "interrupted; complete shards are kept, the same command goes on from there"
    assert started
    wait_for(lambda: not any(is_running(child) for child in started))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_stopped_while_its_processes_start_it_says_one_line(packing: Packing, tmp_path: Path) -> None:
    process = packing.start(tmp_path)
    wait_for(lambda: len(children(process.pid)) > 1, 0.001)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error.strip().count("\n")) == (128 + signal.SIGTERM, 0), error


def test_a_process_that_dies_is_one_message() -> None:
    with pytest.raises(UserError, match=r"a worker process died .*data\.workers=1"), Workers(1) as workers:
        workers.map(os._exit, [3], is_small=False)


@pytest.mark.slow
def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    video = Video("P01_01")  # a shard of about 200 KB
    write_video(tmp_path / "frames", video)
    write_annotations(tmp_path / "train.csv", [video])
    (tmp_path / "config.yaml").write_text("name: test\n")

    def allow_half_a_shard() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    full = subprocess.run(
        command(tmp_path, tmp_path), preexec_fn=allow_half_a_shard, capture_output=True, text=True, check=False
    )
    assert full.returncode == 1
    assert full.stderr.startswith("error: ")
    assert "00000.tfrecord: cannot be written: File too large; what was there before is still there" in full.stderr
    assert list((tmp_path / "train").iterdir()) == []
    assert subprocess.run(command(tmp_path, tmp_path), capture_output=True, check=False).returncode == 0
