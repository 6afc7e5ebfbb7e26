"""A step of any method on any device asks for nothing back, and what it learns follows from its number."""

import pytest
import torch

from configs import load_config
from engine.device import Placement
from engine.distributed import World
from engine.step import Stepper
from models import FUSIONS, build_model
from pipeline.batch import Batch
from tests.engine.waits import CountCalls, CountOperations
from tests.runs import CONFIG

SMALL = {"width": 0.05, "num_classes": 6}


def stepper_of(fusion: str) -> Stepper:
    torch.manual_seed(0)
    placement = Placement(torch.device("cpu"))
    model = placement.place(build_model(fusion, **SMALL))
    stepper = Stepper(model, model.losses, load_config(CONFIG).train, 0, placement, World())
    stepper.train_mode()
    return stepper


def batch() -> Batch:
    rgb, flow = (torch.randint(0, 256, (2, channels, 16, 32, 32), dtype=torch.uint8) for channels in (3, 2))
    return Batch(rgb, flow, torch.tensor([1, 2]), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64), ())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_no_method_waits_for_the_device_in_a_step(fusion: str):
    stepper, clips = stepper_of(fusion), batch()
    stepper.step(clips, 0)  # the first makes the optimizer's state
    with CountCalls() as calls, CountOperations() as operations:
        stepper.step(clips, 1)
    assert calls.found == []
    assert operations.found == []


def test_waits_are_found_where_they_are():
    x = torch.arange(4.0, requires_grad=True)
    with CountCalls() as calls, CountOperations() as operations:
        x[x > 1].sum().backward()
        x.sum().item()
        if x.max() > 2:
            x.detach().cpu()
    assert calls.found == ["item", "__bool__", "cpu"]
    assert operations.found == ["index", "index_put", "_local_scalar_dense", "_local_scalar_dense"]


def test_what_a_step_learns_follows_from_its_number():
    """Dropout is drawn for each step anew, so that a resumed run needs no generator's state."""
    clips, norms = batch(), []
    for number in (3, 3, 4):
        stepper = stepper_of("xnorm")
        norms.append(stepper.step(clips, number).grad_norm)
    assert torch.equal(norms[0], norms[1])
    assert not torch.equal(norms[0], norms[2])
