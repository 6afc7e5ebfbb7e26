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

from configs.errors import UserError
from pipeline.format import open_split
from preprocess.workers import Workers
from tests.trees import Video, write_annotations, write_video

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def big_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred overlapping clips of one video, 12 MiB: enough for processes and for a dozen shards."""
    folder = tmp_path_factory.mktemp("big")
    clips = tuple((1 + n % 21, 20 + n % 21, n % 3) for n in range(100))
    video = Video("P01_01", height=128, width=160, clips=clips)
    write_video(folder / "frames", video)
    write_annotations(folder / "train.csv", [video])
    (folder / "config.yaml").write_text("name: test\n")
    return folder


def command(tree: Path, shards: Path) -> list[str]:
    return [
        *(sys.executable, str(ROOT / "preprocess" / "pack.py"), "-c", str(tree / "config.yaml"), "data.preset=none"),
        *(f"data.frames={tree / 'frames'}", f"data.shards={shards}", "data.workers=2", "data.shard_mib=1"),
        "data.check=header",
        f"data.annotations={{train: [{tree / 'train.csv'}]}}",
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def uninterrupted(big_tree: Path) -> tuple[dict[str, bytes], float]:
    """The files of a whole run, and the seconds it took."""
    begin = time.monotonic()
    done = subprocess.run(command(big_tree, big_tree / "whole"), cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "train: 100 clips, 4,800 JPEGs" in done.stdout
    split = open_split(big_tree / "whole" / "train")
    assert len(split.shard_paths) > 10
    return contents(split.dir), time.monotonic() - begin


def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    big_tree: Path, uninterrupted: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    whole, seconds = uninterrupted
    random = np.random.default_rng()
    moments = [float(random.uniform(0.3, 1.0)) * seconds for _ in range(3)]
    for moment in moments:
        process = subprocess.Popen(command(big_tree, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        process.kill()
        process.wait()
    done = subprocess.run(command(big_tree, tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (moments, done.stderr)
    assert contents(tmp_path / "train") == whole, moments


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(big_tree: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(command(big_tree, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(tmp_path.glob("train/*.part.npz")))
    started = children(process.pid)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert error.strip() == "interrupted; complete shards are kept, the same command goes on from there"
    assert started
    wait_for(lambda: not any(is_running(child) for child in started))


def test_a_process_that_dies_is_one_message() -> None:
    with pytest.raises(UserError, match=r"a worker process died .*data\.workers=1"), Workers(1) as workers:
        list(workers.run(os._exit, [3], is_small=False))


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
