"""Which device and precision a run gets."""

import pytest
import torch

from configs import ConfigError
from engine.device import choose_placement


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_is_fp32_on_the_cpu():
    placement = choose_placement("auto", "auto")
    assert (placement.device.type, placement.precision) == ("cpu", "fp32")
    assert not placement.scaler().is_enabled()
    with placement.autocast():
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.usefixtures("no_gpu")
def test_bf16_runs_on_a_cpu_too():
    with choose_placement("auto", "bf16").autocast():
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16


@pytest.mark.usefixtures("no_gpu")
def test_fp16_is_refused_on_a_cpu():
    with pytest.raises(ConfigError, match=r"train.precision: found 'fp16', which needs a GPU; allowed on a CPU: auto"):
        choose_placement("cpu", "fp16")


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(
        ConfigError, match=r"train.device: found 'cuda', but torch sees no GPU here; allowed: auto, cpu"
    ):
        choose_placement("cuda", "auto")
