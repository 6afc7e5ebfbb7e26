"""The profiler measures what it says: waits, CPU time of workers, stages that add up, all ways on the same clips."""

import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.profile import __main__ as profile
from pipeline.profile import measure, rivals
from pipeline.profile.measure import Timings, cpu_seconds, interleave
from pipeline.profile.stages import stage_costs
from tests.conftest import pack_tree

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


def test_a_turn_begins_when_what_others_made_ahead_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([0.0, 0.1, 0.2, 0.2, 0.3])  # CPU seconds, at looks a tenth of a second apart
    monkeypatch.setattr(measure, "cpu_seconds", lambda: next(used))
    measure.wait_for_idle()
    assert list(used) == [0.3]
    monkeypatch.setattr(measure, "cpu_seconds", time.perf_counter)  # a core that never rests
    monkeypatch.setattr(measure, "PATIENCE", 0.3)
    begun = time.perf_counter()
    measure.wait_for_idle()
    assert time.perf_counter() - begun >= 0.3


def test_a_summary_has_medians_and_ranges() -> None:
    summary = Timings(cpu_ms=[3, 1, 2], clips_per_s=[10, 30, 20], waits_ms=list(range(100))).summary()
    assert (summary["cpu_ms_per_clip"], summary["cpu_ms_per_clip_min"], summary["cpu_ms_per_clip_max"]) == (2, 1, 3)
    assert (summary["wait_ms_p50"], summary["wait_ms_p95"], summary["wait_ms_p99"]) == (50, 95, 99)


def test_stages_add_up_to_the_loader() -> None:
    costs = stage_costs({"floor": 9.0, "reading": 1.0, "decoding": 11.0, "copy-out": 12.5, "loader": 13.0})
    assert costs == {"reading": 1.0, "decode": 10.0, "copy-out": 1.5, "augment": 0.5}


@pytest.mark.slow
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
    assert figures["rivals"]["simplejpeg + threads"]["pixels"] == "equal"
    assert "does not hold the frames as folders" in figures["left_out"]["OpenCV + DataLoader, as published"]
    assert "SPDL" not in figures["left_out"]  # which comes with --rivals
    stages = figures["stages_cpu_ms_per_clip"]
    assert sum(stages.values()) == pytest.approx(figures["candidates"]["loader"]["cpu_ms_per_clip"])
    assert figures["frames_per_s"] == pytest.approx(figures["clips_per_s"] * 8 * 3)
    assert plot.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "recommended: loader.num_threads=" in printed
    assert "one round does not say how noisy it is" in printed


def test_raw_frames_have_stages_and_no_baselines(raw_split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-c", str(ROOT / "configs" / "xnorm.yaml"), f"data.shards={raw_split.parent}", *SMALL]
    assert profile.main([*command, "--rounds", "1", "--batches", "2"]) == 0
    assert "MB/s of shards" in capsys.readouterr().out
    assert profile.main([*command, "--baselines"]) == 1
    assert "they load JPEGs, and " in capsys.readouterr().err


def test_the_same_clips_packed_otherwise_are_measured_beside(
    tree: Path, split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = pack_tree(tree, "restarts", "data.codec=jpeg-restarts").parent
    command = ["-c", str(ROOT / "configs" / "xnorm.yaml"), f"data.shards={split.parent}", *SMALL]
    report = tmp_path / "profile.json"
    assert (
        profile.main([*command, "--rounds", "1", "--batches", "2", "--beside", str(other), "--json", str(report)]) == 0
    )
    assert json.loads(report.read_text())["rivals"]["loader, jpeg-restarts"]["pixels"] == "equal"


def test_an_installed_copy_has_no_rivals_and_says_where_they_are(
    split: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(rivals, "import_module", missing)
    command = ["-c", str(ROOT / "configs" / "xnorm.yaml"), f"data.shards={split.parent}", *SMALL]
    assert profile.main([*command, "--baselines"]) == 1
    assert "the folder benchmarks of the project's clone" in capsys.readouterr().err


def test_a_split_that_is_not_packed_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile.main(["-c", str(ROOT / "configs" / "xnorm.yaml"), f"data.shards={tmp_path}"]) == 1
    assert "pack.py" in capsys.readouterr().err
