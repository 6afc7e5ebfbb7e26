"""Stages that are computed again for their gradients, and stages and norms that are frozen."""

import pytest
import torch
from torch import Tensor, nn

from common.errors import ConfigError
from configs.options import TRUNK_STAGES
from models import FusionModel, build_model

DRAWS = torch.Generator().manual_seed(0)
CLIPS = tuple(torch.rand(2, channels, 8, 48, 48, generator=DRAWS) for channels in (3, 2))


def model_of(fusion: str, **options: object) -> FusionModel:
    torch.manual_seed(0)
    width = {} if "trunk" in options else {"width": 0.1}
    return build_model(fusion, num_classes=4, dropout=0.0, **width | options).train()


def learned(model: FusionModel) -> dict[str, Tensor]:
    """Loss, gradients and statistics of two steps."""
    for _ in range(2):
        loss = model.losses(model(*CLIPS), torch.tensor([1, 3]))["cls"]
        loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"loss": loss.detach(), **found, **{name: buffer.clone() for name, buffer in model.named_buffers()}}


@pytest.mark.parametrize(
    ("fusion", "stages", "trunk"),
    [
        ("late", "all", "i3d"),
        ("xnorm", "all", "i3d"),
        ("xnorm", ["Conv3d_1a_7x7", "Mixed_3b"], "i3d"),
        pytest.param("rgb", "all", "r2plus1d_18", marks=pytest.mark.slow),
    ],
)
def test_stages_computed_again_give_the_same_gradients_and_statistics_bit_for_bit(
    fusion: str, stages: object, trunk: str
) -> None:
    options = {} if trunk == "i3d" else {"trunk": trunk}
    expected = learned(model_of(fusion, **options))
    found = learned(model_of(fusion, checkpoint_stages=stages, **options))
    assert any("running_var" in name for name in found)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_all_stages_are_those_of_the_trunk() -> None:
    with torch.device("meta"):
        model = build_model("rgb", trunk="r2plus1d_18", checkpoint_stages="all")
    assert model.rgb_enc.recomputed == TRUNK_STAGES["r2plus1d_18"]


def test_without_gradients_nothing_is_kept_or_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.trunks.trunk.checkpoint", lambda *_, **__: pytest.fail("kept"))
    with torch.inference_mode():
        model_of("late", checkpoint_stages="all").eval()(*CLIPS)


def changed(model: FusionModel) -> set[str]:
    """Entries of the state that a step changes."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model.train().losses(model(*CLIPS), torch.tensor([1, 3]))["cls"].backward()
    optimizer.step()
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_frozen_stages_and_their_statistics_stay_and_all_else_learns() -> None:
    frozen = ("Conv3d_1a_7x7", "Conv3d_2b_1x1")
    model = model_of("late", freeze=frozen)
    kept = {name for name in model.state_dict() if name.split(".")[1] in frozen}
    assert kept
    assert changed(model) == set(model.state_dict()) - kept


def test_frozen_norms_keep_statistics_weights_and_biases_and_convolutions_learn() -> None:
    model = model_of("late", freeze_bn=True, width=0.25)  # at 0.1 a ReLU may be dead, its layer with it
    names = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm3d)}
    kept = {name for name in model.state_dict() if name.rpartition(".")[0] in names}
    assert kept
    assert changed(model) == set(model.state_dict()) - kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ["Mixed_9z"]}, r"unknown stage 'Mixed_9z' of trunk 'i3d'"),
        ({"checkpoint_stages": ["layer2", "layer1"], "trunk": "r2plus1d_18"}, r"allowed: each stage once, as the netw"),
        ({"freeze": ["Mixed_3b"], "freeze_trunk": True}, "freeze has no effect when freeze_trunk is true"),
        ({"freeze_bn": True, "freeze_trunk": True}, "freeze_bn has no effect when freeze_trunk is true"),
        ({"freeze_bn": True, "batchnorm_momentum": 0.5}, "batchnorm_momentum has no effect when freeze_bn is true"),
    ],
)
def test_what_has_no_effect_or_is_not_there_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model("late", **options)
