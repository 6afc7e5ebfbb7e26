"""Groups of parameters by what they are, and rates that follow from a step's number."""

from typing import cast

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR, ReduceLROnPlateau, SequentialLR

from common.errors import ConfigError
from configs import load_config
from configs.schema import TrainSection
from engine.runs.checkpoint import load_checkpoint
from engine.training.optimisation import LearningRate, make_optimizer, parameter_groups
from models import FUSIONS, build_model
from tests.engine.conftest import FakeLoader, MakeTrainer, TinyModel
from tests.engine.training.test_trainer import lines
from tests.runs import CONFIG

EPOCH = 5  # steps


def settings(*overrides: str) -> TrainSection:
    return load_config(CONFIG, [f"train.{override}" for override in overrides]).train


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.5, 5.0)])


def rates(epochs: int, *overrides: str, scores: list[float] | None = None) -> list[float]:
    """The rate of each step of both groups, of which the second has ten times the first's."""
    ours, found = optimizer(), []
    rate = LearningRate(ours, settings("lr=0.5", f"epochs={epochs}", *overrides), EPOCH)
    for step in range(epochs * EPOCH):
        rate.set(step)
        first, second = (group["lr"] for group in ours.param_groups)
        assert second == pytest.approx(10 * first, rel=1e-12)
        assert rate.rate(step) == first
        found.append(first)
        if (step + 1) % EPOCH == 0:
            rate.end_epoch(scores[step // EPOCH] if scores else 0.0)
    return found


def torch_rates(epochs: int, make: object) -> list[float]:
    ours, found = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5), []
    scheduler = make(ours)  # type: ignore[operator]
    for _ in range(epochs * EPOCH):
        found.append(ours.param_groups[0]["lr"])
        ours.step()
        scheduler.step()
    return found


def test_cosine_after_a_warm_up_is_torchs():
    def make(ours: torch.optim.Optimizer) -> SequentialLR:
        cosine = CosineAnnealingLR(ours, T_max=4 * EPOCH - 3)
        return SequentialLR(ours, [LinearLR(ours, start_factor=1 / 3, total_iters=2), cosine], milestones=[3])

    found = rates(4, "schedule=cosine", "warmup_steps=3")
    assert found == pytest.approx(torch_rates(4, make), rel=1e-9)
    assert found[:4] == pytest.approx([0.5 / 3, 1 / 3, 0.5, 0.5])


def test_step_is_torchs_at_the_epochs_that_are_named():
    found = rates(4, "schedule=step", "lr_steps=[1,3]", "lr_factor=0.2")
    expected = torch_rates(4, lambda ours: MultiStepLR(ours, [EPOCH, 3 * EPOCH], gamma=0.2))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_is_torchs_with_no_threshold(patience: int):
    torch.manual_seed(patience)
    scores = torch.randint(0, 8, (40,)).double().tolist()
    found = rates(40, f"lr_patience={patience}", "lr_factor=0.5", scores=scores)[::EPOCH]
    ours = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    plateau = ReduceLROnPlateau(ours, "max", 0.5, patience, threshold=0.0, threshold_mode="abs", eps=0.0)
    expected = []
    for score in scores:
        expected.append(ours.param_groups[0]["lr"])
        plateau.step(score)
    assert found == expected
    assert len(set(found)) > 3


def test_plateau_drops_on_top_of_a_warm_up_that_is_still_under_way():
    found = rates(3, "warmup_steps=14", "lr_patience=0", "lr_factor=0.5", scores=[1.0, 1.0, 1.0])
    drops = [1.0] * 10 + [0.5] * 5
    assert found == pytest.approx([0.5 * min(1, (n + 1) / 14) * drop for n, drop in enumerate(drops)])


def test_a_warm_up_as_long_as_the_run_is_refused():
    with pytest.raises(ConfigError, match=r"train.warmup_steps: found 10; allowed: less than the 10 steps of all 2"):
        LearningRate(optimizer(), settings("warmup_steps=10", "epochs=2"), EPOCH)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule=step"], "train: lr_steps: needed when train.schedule is step"),
        (["lr_steps=[3]"], "train: lr_steps: has no effect when train.schedule is plateau; set it to null"),
        (["schedule=step", "lr_steps=[3,2]"], r"lr_steps: found \[3, 2\]; allowed: ascending, below train.epochs=50"),
        (["schedule=step", "lr_steps=[50]"], r"lr_steps: found \[50\]; allowed: ascending, below"),
    ],
)
def test_steps_that_mean_nothing_are_refused(overrides: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        settings(*overrides)


def test_by_default_all_is_one_group_in_the_models_order():
    model = build_model("xnorm", width=0.05)
    (group,) = parameter_groups(model, settings())
    assert all(a is b for a, b in zip(group["params"], model.parameters(), strict=True))
    assert (group["lr"], group["weight_decay"]) == (1e-4, 1e-4)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_norms_and_biases_can_go_without_decay_and_heads_have_a_rate_of_their_own(fusion: str):
    with torch.device("meta"):
        model = build_model(fusion, width=0.05)
    groups = parameter_groups(model, settings("head_lr_factor=10", "decay_vectors=false", "lr=0.5", "weight_decay=0.1"))
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    norms = {id(p) for m in model.modules() if "Norm" in type(m).__name__ for p in m.parameters(recurse=False)}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(found) == len(trained)
    for name, parameter in trained.items():
        is_stage = "_enc." in name and ".logits." not in name
        is_vector = id(parameter) in norms or "bias" in name
        assert found[id(parameter)] == (0.5 if is_stage else 5.0, 0.0 if is_vector else 0.1), name


def test_a_rate_for_heads_is_refused_where_nothing_else_is_there():
    with pytest.raises(ConfigError, match=r"train.head_lr_factor: found 2, but this method has no trunk"):
        parameter_groups(TinyModel(), settings("head_lr_factor=2"))


def test_sgd_is_nesterovs_by_its_formula():
    """Sutskever et al., ICML 2013, as torch writes it: v = 0.9 v + g, w = w - lr (g + 0.9 v)."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    sgd = make_optimizer(model, settings("optimizer=sgd", "lr=0.1", "weight_decay=0.01"))
    w, v = model.weight.detach().clone(), torch.zeros(2, 3, dtype=torch.float64)
    for _ in range(3):
        gradient = torch.randn(2, 3, dtype=torch.float64)
        model.weight.grad, model.bias.grad = gradient.clone(), torch.zeros(2, dtype=torch.float64)
        sgd.step()
        decayed = gradient + 0.01 * w
        v = 0.9 * v + decayed
        w = w - 0.1 * (decayed + 0.9 * v)
        torch.testing.assert_close(model.weight.detach(), w, rtol=1e-12, atol=0)


RECIPES = {
    "cosine": ["train.schedule=cosine", "train.warmup_steps=3"],
    "step": ["train.schedule=step", "train.lr_steps=[2]", "train.optimizer=sgd"],
    "plateau": ["train.lr_patience=0", "train.decay_vectors=false", "train.warmup_steps=2"],
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_that_goes_on_from_a_checkpoint_takes_the_same_rates_and_steps(trainer: MakeTrainer, recipe: str):
    overrides = ["train.epochs=3", "train.lr=0.1", "train.log_every=1", *RECIPES[recipe]]
    whole, rest = trainer(*overrides, "name=whole"), trainer(*overrides, "name=rest")
    whole.settings = whole.settings.model_copy(update={"epochs": 1})
    whole.train()
    rest.load_state_dict(load_checkpoint(whole.run.last))
    cast(FakeLoader, rest.val_loader).epoch = 1  # whose clips are others in each epoch
    whole.settings = rest.settings
    for run in (whole, rest):
        run.train()
    states = [load_checkpoint(run.run.last) for run in (whole, rest)]
    for part in ("model", "stepper", "learning_rate"):
        torch.testing.assert_close(states[1][part], states[0][part], rtol=0, atol=0)
    rates = [[record["lr"] for record in lines(run, "train")] for run in (whole, rest)]
    assert rates[0][4:] == rates[1]
    assert len(set(rates[1])) > 1
