"""The profiler measures what it says: waits, CPU time of workers, stages that add up, all ways on the same clips."""

import json
import multiprocessing
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.format.split import open_split
from pipeline.loader import ClipLoader
from pipeline.profile import __main__ as profile
from pipeline.profile.baselines import (
    DecodedClips,
    dataloader_batches,
    decode_opencv,
    decode_torchvision,
    tfrecord_batches,
)
from pipeline.profile.measure import Timings, cpu_seconds, interleave
from pipeline.profile.published import PublishedClips, has_folders
from pipeline.profile.stages import stage_costs
from tests.conftest import Packer
from tests.trees import Video

ROOT = Path(__file__).parents[3]
SMALL = ["clip.crop_size=48", "clip.num_frames=8", "loader.batch_size=2", "loader.num_threads=1"]


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def sleeper(seconds: float, clips: int) -> Iterator[int]:
    while True:
        time.sleep(seconds)
        yield clips


def worker(seconds: float, clips: int) -> Iterator[int]:
    while True:
        busy(seconds)
        yield clips


def measured(**candidates: Iterator[int]) -> dict[str, Timings]:
    return dict(interleave(candidates, rounds=2, batches=5, warmup=1))


def test_waiting_is_wall_time_and_working_is_cpu_time() -> None:
    results = measured(waits=sleeper(0.02, 2), works=worker(0.02, 4))
    waits, works = results["waits"].summary(), results["works"].summary()
    assert waits["wait_ms_p50"] >= 20
    assert waits["cpu_ms_per_clip"] < 5 < works["cpu_ms_per_clip"] + 0.5
    assert works["cpu_ms_per_clip"] == pytest.approx(20 / 4, rel=0.5)
    assert waits["clips_per_s"] <= 2 / 0.02


def test_cpu_time_includes_that_of_living_worker_processes() -> None:
    child = multiprocessing.get_context("fork").Process(target=busy, args=(60.0,), daemon=True)
    child.start()
    before, until = cpu_seconds() - time.process_time(), time.monotonic() + 30  # a busy machine lets it wait
    while (others := cpu_seconds() - time.process_time() - before) < 0.2 and time.monotonic() < until:
        time.sleep(0.05)
    assert child.is_alive()
    assert others >= 0.2
    child.terminate()
    child.join()


def test_candidates_take_turns() -> None:
    turns = interleave({"a": sleeper(0, 1), "b": sleeper(0, 1)}, rounds=3, batches=1, warmup=0)
    assert [(name, len(rounds.cpu_ms)) for name, rounds in turns] == [(n, count) for count in (1, 2, 3) for n in "ab"]


def test_a_summary_has_medians_and_ranges() -> None:
    summary = Timings(cpu_ms=[3, 1, 2], clips_per_s=[10, 30, 20], waits_ms=list(range(100))).summary()
    assert (summary["cpu_ms_per_clip"], summary["cpu_ms_per_clip_min"], summary["cpu_ms_per_clip_max"]) == (2, 1, 3)
    assert (summary["wait_ms_p50"], summary["wait_ms_p95"], summary["wait_ms_p99"]) == (50, 95, 99)


def test_stages_add_up_to_the_loader() -> None:
    costs = stage_costs({"floor": 9.0, "reading": 1.0, "decoding": 11.0, "copy-out": 12.5, "loader": 13.0})
    assert costs == {"reading": 1.0, "decode": 10.0, "copy-out": 1.5, "augment": 0.5}


@pytest.mark.parametrize("decode", [decode_opencv, decode_torchvision])
def test_a_baseline_sees_the_pixels_of_the_loader(split: Path, decode: object) -> None:
    """With crops as large as the frames' height, every way has the same rows; columns and mirrors are drawn."""
    with ClipLoader(split, 1, 8, 64, train=False) as loader:
        ours = next(iter(loader))
    torch.manual_seed(0)
    data = DecodedClips(open_split(split), 8, 64, decode)  # type: ignore[arg-type]
    draws = [data[0] for _ in range(60)]
    wanted = [as_levels(ours.rgb[0]), as_levels(ours.flow[0])]
    found = [[as_levels(rgb), as_levels(flow)] for rgb, flow, _ in draws]
    assert any(all(np.array_equal(a, b) for a, b in zip(wanted, pair, strict=True)) for pair in found)


def test_the_published_way_sees_the_pixels_of_the_loader_in_each_stream(packer: Packer) -> None:
    split = packer([Video("P01_01", width=64), Video("P02_101", width=64)])  # a crop of the whole frame has one place
    with ClipLoader(split, 1, 8, 64, train=False) as loader:
        ours = next(iter(loader))
    frames = split.parents[1] / "frames"
    assert has_folders(open_split(split), frames)
    data = PublishedClips(open_split(split), frames, 8, 64)
    random.seed(0)
    draws = [data[0] for _ in range(20)]
    assert {bool((rgb == draws[0][0]).all()) for rgb, _, _ in draws} == {True, False}  # some are mirrored
    assert any(np.array_equal(as_levels(ours.rgb[0]), as_levels(rgb)) for rgb, _, _ in draws)
    assert any(np.array_equal(as_levels(ours.flow[0]), as_levels(flow)) for _, flow, _ in draws)


def test_the_published_way_is_left_out_where_frames_are_in_archives(split: Path) -> None:
    assert not has_folders(open_split(split), split.parents[1] / "frames")


def as_levels(stream: torch.Tensor) -> np.ndarray:
    values = stream.numpy()
    return np.rint((values + 1) * 127.5).astype(np.uint8) if values.dtype == np.float32 else values


def test_baselines_yield_full_batches_for_ever(split: Path) -> None:
    opened = open_split(split)
    clips = DecodedClips(opened, 8, 48, decode_opencv)
    workers = dataloader_batches(clips, batch_size=3, num_workers=1, prefetch=1)
    assert list(islice(workers, 4)) == [3, 3, 3, 3]
    workers.close()
    packed_16 = {"batch_size": 3, "num_frames": 16, "crop_size": 48}
    assert list(islice(tfrecord_batches(opened, **packed_16, num_threads=1), 4)) == [3, 3, 3, 3]


def test_the_command_reports_stages_baselines_and_a_sweep(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, plot = tmp_path / "profile.json", tmp_path / "profile.png"
    code = profile.main(
        [
            *("-c", str(ROOT / "configs" / "xnorm.yaml"), f"data.shards={split.parent}", *SMALL),
            *("--rounds", "1", "--batches", "2", "--baselines", "--sweep", "--json", str(report), "--plot", str(plot)),
        ]
    )
    assert code == 0
    figures = json.loads(report.read_text())
    assert set(figures["candidates"]) >= {"floor", "reading", "decoding", "copy-out", "loader", "DALI readers.tfrecord"}
    stages = figures["stages_cpu_ms_per_clip"]
    assert sum(stages.values()) == pytest.approx(figures["candidates"]["loader"]["cpu_ms_per_clip"])
    assert figures["frames_per_s"] == pytest.approx(figures["clips_per_s"] * 8 * 3)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "recommended: loader.num_threads=" in capsys.readouterr().out


def test_raw_frames_have_stages_and_no_baselines(raw_split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-c", str(ROOT / "configs" / "xnorm.yaml"), f"data.shards={raw_split.parent}", *SMALL]
    assert profile.main([*command, "--rounds", "1", "--batches", "2"]) == 0
    assert "MB/s of shards" in capsys.readouterr().out
    assert profile.main([*command, "--baselines"]) == 1
    assert "they load JPEGs, " in capsys.readouterr().err


def test_a_split_that_is_not_packed_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile.main(["-c", str(ROOT / "configs" / "xnorm.yaml"), f"data.shards={tmp_path}"]) == 1
    assert "pack.py" in capsys.readouterr().err
