"""Every option of every method does something, or is refused: none is read and forgotten."""

import pytest
import torch

from common.errors import ConfigError
from configs.load import load_config
from configs.methods import METHODS
from engine.runtime.device import Placement
from engine.runtime.world import World
from engine.training.step import TrainStep
from models import FitResult, build_model
from pipeline.batch import Batch
from tests.runs import CONFIG, shallow

__all__ = ["shallow"]  # a fixture
SMALL = {"width": 0.05}
SETTINGS = load_config(CONFIG, ["train.clip_norm=1e9"]).train
CHANGED = {
    "trunk": "s3d",
    "num_classes": 5,
    "hidden_size": 64,
    "dropout": 0.5,
    "width": 0.1,
    "batchnorm_momentum": 0.9,
    "freeze_trunk": True,
    "freeze": ("Conv3d_1a_7x7",),
    "freeze_bn": True,
    "rgb_weight": 0.9,
    "diff_weight": 0.6,
    "cmd_weight": 2.0,
    "recon_weight": 2.0,
    "embed_dropout": 0.5,
    "attention_size": 40,
    "attention_heads": 2,
    "attention_layers": 2,
    "estimation_epochs": 3,
    "estimation_subset": 0.5,
    "estimation_holdout": 0.4,
    "online": 1,
    "exchange_after": ("Mixed_3b",),
    "exchange_order": "sequential",
    "param_pool": "global",
    "rank": 2,
    "squeeze_ratio": 8,
    "alpha": 0.9,
    "noise": 0.5,
    "gamma": 3.0,
}
# The method itself; tests/models/test_{checkpoint,targets}.py, methods/test_distill.py, trunks/test_recompute.py.
ELSEWHERE = (
    "fusion",
    "pretrained",
    "targets",
    "target_weights",
    "checkpoint_stages",
    "teacher",
    "temperature",
    "weight",
)
REFUSED = {("mult", "hidden_size")}
OPTIONS = [(fusion, key) for fusion, options in METHODS.items() for key in options.model_fields if key not in ELSEWHERE]


class Recorder:
    """Stands in for the trainer; notes what it is asked for before each epoch."""

    def __init__(self):
        self.epoch, self.asked = 0, []

    def __call__(self, model, loss, **options):
        self.asked.append((self.epoch, options))
        return FitResult(train_before=2.0, train_after=0.5, holdout_before=2.0, holdout_after=1.0)


def what_it_is(fusion, **options):
    """Names, shapes and what is trained."""
    with torch.device("meta"):
        model = build_model(fusion, **options)
    return {name: (value.shape, value.requires_grad) for name, value in model.state_dict(keep_vars=True).items()}


def what_it_does(fusion, **options):
    """Everything that a training step depends on: what is asked of the trainer, losses, gradients, statistics."""
    torch.manual_seed(0)
    model, fit = build_model(fusion, **options).train(), Recorder()
    clips = torch.rand(3, 3, 9, 45, 45), torch.rand(3, 2, 9, 45, 45)
    for fit.epoch in range(2):
        model.prepare(fit)
    model(*(clip / 2 for clip in clips))  # the first batch's statistics are taken whole, whatever the momentum
    labels = torch.arange(3)
    stepper = TrainStep(model, model.losses, SETTINGS, 0, Placement(torch.device("cpu")), World())
    losses = stepper.step(Batch(*clips, labels, labels, torch.zeros_like(labels), ()), 0).losses
    numbers = [*losses.values(), *(p.grad.norm() for p in model.parameters() if p.grad is not None), *model.buffers()]
    return fit.asked, torch.cat([number.detach().double().flatten() for number in numbers])


def is_alike(one, other):
    return one[0] == other[0] and torch.equal(one[1], other[1])


@pytest.fixture(scope="module")
def usual():
    """What each method is with the usual options, and what it does."""
    return {fusion: (what_it_is(fusion, **SMALL), what_it_does(fusion, **SMALL)) for fusion in METHODS}


@pytest.mark.parametrize("fusion", METHODS)
def test_the_same_options_do_the_same(fusion, usual):
    assert is_alike(what_it_does(fusion, **SMALL), usual[fusion][1])


@pytest.mark.parametrize(("fusion", "key"), OPTIONS)
def test_an_option_has_an_effect_or_is_refused(fusion, key, usual):
    options = (SMALL if key != "trunk" else {}) | {key: CHANGED[key]}
    if (fusion, key) in REFUSED:
        with pytest.raises(ConfigError, match=f"{key} has no effect when fusion is '{fusion}'"):
            build_model(fusion, **options)
    elif what_it_is(fusion, **options) == usual[fusion][0]:
        assert not is_alike(what_it_does(fusion, **options), usual[fusion][1])
