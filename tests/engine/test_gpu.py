"""The same loop on a GPU; these skip by themselves where there is none."""

import pytest
import torch

from common.display import Display
from engine.runtime.device import Placement, choose_placement
from engine.runtime.session import RunContext, StopSignal
from engine.runtime.world import World
from tests.engine.conftest import FakeLoader, MakeTrainer

pytestmark = pytest.mark.gpu


def session_on(placement: Placement) -> RunContext:
    return RunContext(placement, World(), Display(quiet=True), StopSignal())


def test_auto_takes_the_gpu_and_half_the_bits():
    placement = choose_placement("auto", "auto")
    assert placement.device.type == "cuda"
    assert placement.precision in ("bf16", "fp16")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_epoch_under_amp_changes_all_weights_and_keeps_them_finite(precision: str, trainer: MakeTrainer):
    session = session_on(choose_placement("cuda", precision))
    small = trainer("train.epochs=1", loader=FakeLoader(device="cuda"), session=session)
    before = [parameter.detach().clone() for parameter in small.model.parameters()]
    small.train()
    for old, new in zip(before, small.model.parameters(), strict=True):
        assert new.isfinite().all()
        assert not torch.equal(old, new)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_no_step_waits_for_the_gpu(precision: str, trainer: MakeTrainer):
    session = session_on(choose_placement("cuda", precision))
    small = trainer(loader=FakeLoader(), session=session)  # batches on the CPU, so that their way over is included
    batch = next(iter(small.train_loader)).to(session.placement.device)
    small.stepper.step(batch, 0)  # the first one sets things up
    torch.cuda.set_sync_debug_mode("error")
    try:
        small.meter.add(small.stepper.step(batch, 1), batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
