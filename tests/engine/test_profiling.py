"""The profiler's look at training: three speeds, the wait for clips, and a trace with the costliest operations."""

import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from engine import profiling
from engine.profiling import COSTLIEST, Training
from engine.runtime.session import RunContext
from pipeline.batch import Batch
from tests.runs import CONFIG, SMALL, MakeConfig


def test_training_is_measured_beside_the_model_and_the_loader_alone(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    report, trace = tmp_path / "profile.json", tmp_path / "trace.json"
    command = ["-c", str(CONFIG), *SMALL, f"data.shards={split.parent}", "--rounds", "1", "--batches", "2"]
    assert profiling.main([*command, "--trace", str(trace), "--json", str(report)]) == 0
    training = json.loads(report.read_text())
    speeds = {name: figure["clips_per_s"] for name, figure in training["candidates"].items()}
    assert list(speeds) == ["compute", "loader", "end to end"]
    assert training["limit"] == min(("compute", "loader"), key=speeds.__getitem__)
    assert 0 < training["data_wait"] < 1
    times = [operation["ms_per_step"] for operation in training["operations"]]
    assert len(times) == COSTLIEST
    assert times == sorted(times, reverse=True)
    assert 0 < sum(operation["share"] for operation in training["operations"]) <= 1
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"aten::convolution_backward", "aten::native_batch_norm"} <= names
    assert not [path for path in tmp_path.iterdir() if path not in (report, trace)]
    assert "end to end" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "least", "most"), [(0.0, 0.0, 0.5), (0.3, 0.5, 1.0)])
def test_the_wait_for_a_slow_loader_is_seen(
    seconds: float, least: float, most: float, config: MakeConfig, session: RunContext, monkeypatch: pytest.MonkeyPatch
):
    training = Training(config("model.fusion=rgb"), "train", session)
    monkeypatch.setattr(training, "_batches", slowly(training, seconds))
    assert list(islice(training.train(), 4)) == [4] * 4
    assert least <= training.waited / training.seconds <= most


def slowly(training: Training, seconds: float) -> Callable[[], Iterator[Batch]]:
    batch = training._random_batch()

    def batches() -> Iterator[Batch]:
        while True:
            time.sleep(seconds)
            yield batch

    return batches


def test_a_method_that_looks_at_one_stream_is_fed_one(config: MakeConfig, session: RunContext):
    batch = Training(config("model.fusion=flow"), "train", session)._random_batch()
    assert batch.rgb is None
    assert batch.flow is not None
    assert (batch.flow.shape, batch.flow.dtype) == ((4, 2, 8, 32, 32), torch.uint8)
