"""Which device and precision a run gets."""

from pathlib import Path

import pytest
import torch

from configs import ConfigError
from engine.runtime.device import Placement, choose_placement


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
@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize(
    ("precision", "reason"),
    [
        ("fp16", "needs a GPU"),
        ("bf16", r"CPUs do not compute rightly \(torch's gradients of bf16 Conv3d .*"),
    ],
)
def test_half_precision_is_refused_on_a_cpu_with_the_reason(device: str, precision: str, reason: str):
    allowed = "; allowed on a CPU: auto, fp32$"
    with pytest.raises(ConfigError, match=f"train.precision: found '{precision}', which {reason}{allowed}"):
        choose_placement(device, precision)


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(
        ConfigError, match=r"train.device: found 'cuda', but torch sees no GPU here; allowed: auto, cpu"
    ):
        choose_placement("cuda", "auto")
    with pytest.raises(ConfigError, match="device: found 'cuda', but torch sees no GPU here"):
        choose_placement("cuda", "fp32", asked_by="device")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system cannot forget a peak")
def test_peak_memory_has_what_was_held_and_can_start_anew():
    placement, size = Placement(torch.device("cpu")), 2**27
    placement.reset_peak_memory()
    before = placement.peak_memory()
    held = torch.ones(size, dtype=torch.uint8)
    peak = placement.peak_memory()
    assert peak > before + size // 2
    del held
    assert placement.peak_memory() == peak
    placement.reset_peak_memory()
    assert placement.peak_memory() < peak - size // 2


def test_channels_lie_last_on_every_device():
    convolution = choose_placement("auto", "auto").move(torch.nn.Conv3d(3, 4, 3))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last_3d)
