"""BatchNorm over all ranks is for GPUs."""

import pytest
import torch

from configs import ConfigError
from engine.runtime.batchnorm import SyncBatchNorm, synchronize
from models import build_model


def test_on_cpus_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.sync_batchnorm: found true, which needs GPUs"):
        synchronize(build_model("rgb", width=0.05), torch.device("cpu"))


def test_every_norm_is_replaced_and_keeps_its_names_and_values() -> None:
    model = build_model("rgb", width=0.05)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    synchronize(model, torch.device("cuda"))
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in model.modules())
    assert any(isinstance(module, SyncBatchNorm) for module in model.modules())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
