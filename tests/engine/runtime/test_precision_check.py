"""Half precision is refused where a convolution is computed wrongly, and nothing of the run changes by looking."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from configs import Config, UserError
from engine.runtime import precision_check
from engine.runtime.device import Placement
from engine.runtime.precision_check import LIMIT, Convolution, check_convolutions, compare, find_convolutions
from engine.runtime.session import RunContext
from engine.runtime.world import World
from models import FusionModel, build_model
from tests.runs import MakeConfig

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
Fault = Callable[[Tensor, Tensor], Tensor]  # (output, weight) of a convolution in half precision -> another output


@pytest.fixture(autouse=True)
def _without_onednn() -> Iterator[None]:
    """Kernels that are right in bf16 on every CPU; oneDNN's are not where there is avx512_bf16."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@pytest.fixture
def half(session: RunContext) -> RunContext:
    """A session as a GPU would have it, on this machine's CPU."""
    return RunContext(Placement(torch.device("cpu"), "bf16"), World(), session.display, session.stop)


@pytest.fixture
def settings(config: MakeConfig) -> Config:
    return config("model.fusion=xnorm")


@pytest.fixture
def model(settings: Config) -> FusionModel:
    torch.manual_seed(0)
    return build_model(**settings.model.model_dump())


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fault], None]:
    """Let convolutions 3x3x3 of 5 to 6 channels be wrong in half precision alone, as a library's are."""
    real = F.conv3d

    def install(fault: Fault) -> None:
        def conv3d(x: Tensor, weight: Tensor, *others: object) -> Tensor:
            if not torch.is_autocast_enabled("cpu") or weight.shape[:2] != (6, 5):
                return real(x, weight, *others)
            weight = weight.clone()
            return fault(real(x, weight, *others), weight)

        monkeypatch.setattr(F, "conv3d", conv3d)

    return install


def one_value(value: float) -> Fault:
    def fault(output: Tensor, _: Tensor) -> Tensor:
        wrong = torch.zeros_like(output)
        wrong.view(-1)[3] = value
        return output + wrong

    return fault


def weight_gradient(factor: float) -> Fault:
    def fault(output: Tensor, weight: Tensor) -> Tensor:
        if weight.requires_grad:
            weight.register_hook(lambda gradient: factor * gradient)
        return output

    return fault


def test_sound_convolutions_pass_and_leave_the_model_and_the_random_numbers_as_they_were(
    model: FusionModel, settings: Config, half: RunContext
) -> None:
    before, random = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    check_convolutions(model, settings, half)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("fault", "figures"),
    [
        (one_value(torch.nan), r"output not finite, gradient of the input 0\.\d+%, gradient of the weights 0\.\d+%"),
        (one_value(1.0), r"output \d\d\.\d\d%"),
        (weight_gradient(1.1), r"output 0\.\d+%, gradient of the input 0\.\d+%, gradient of the weights (9|10)\.\d+%"),
    ],
    ids=["nan", "a wrong value", "weights' gradient"],
)
def test_a_faulty_convolution_ends_the_run_with_its_name_and_figures(
    fault: Fault, figures: str, model: FusionModel, settings: Config, half: RunContext, faulty: Callable[[Fault], None]
) -> None:
    faulty(fault)
    names = r"rgb_enc\.\S+\.conv3d"
    with pytest.raises(UserError, match=rf"bf16 convolutions are computed wrongly here \(cpu.*: {names} \({figures}"):
        check_convolutions(model, settings, half)


def test_scoring_looks_at_outputs_alone(
    model: FusionModel, settings: Config, half: RunContext, faulty: Callable[[Fault], None]
) -> None:
    faulty(weight_gradient(1.1))
    check_convolutions(model, settings, half, training=False)
    faulty(one_value(1.0))
    with pytest.raises(UserError, match=r"\(output \d\d\.\d\d%\)"):
        check_convolutions(model, settings, half, training=False)


def test_fp32_is_not_looked_at(model: FusionModel, settings: Config, session: RunContext, faulty: Callable) -> None:
    faulty(one_value(torch.nan))
    check_convolutions(model, settings, session)


def test_each_kind_of_convolution_is_found_once_with_its_real_input(model: FusionModel, settings: Config) -> None:
    found = {one.name: one for one in find_convolutions(model, settings.clip, Placement(torch.device("cpu")))}
    first = found["rgb_enc.Conv3d_1a_7x7.conv3d"]
    assert tuple(first.shape) == (1, 3, 8, 32, 32)
    assert first.work == 3 * 7**3 * first.module.out_channels * 4 * 16 * 16
    assert not first.learns  # nobody asks for the gradient of a clip
    assert found["rgb_enc.Conv3d_2c_3x3.conv3d"].learns
    assert not any(name.startswith("flow_enc.Conv3d_2") for name in found)  # the same as RGB's
    assert [one.work for one in found.values()] == sorted(one.work for one in found.values())


def measured_sizes(
    num_clips: int, model: FusionModel, settings: Config, half: RunContext, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[int], float]:
    """The clips that each convolution is compared on, and the seconds: a thousandth each, and one for 10^9 products."""
    clock, sizes = SimpleNamespace(now=0.0), []

    def measure(one: Convolution, clips: int, _: Placement) -> dict[str, float]:
        clock.now += 1e-3 + clips * one.work / 1e9
        sizes.append(clips)
        return {}

    monkeypatch.setattr(precision_check, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(precision_check, "measure", measure)
    found = find_convolutions(model, settings.clip, half.placement)
    assert compare(found, num_clips, half.placement) == {}
    return sizes, clock.now


def test_all_clips_are_compared_where_the_time_allows(
    model: FusionModel, settings: Config, half: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, seconds = measured_sizes(64, model, settings, half, monkeypatch)
    assert set(sizes) == {64}
    assert seconds < LIMIT


@pytest.mark.parametrize("num_clips", [256, 2048])
def test_fewer_clips_are_compared_at_once_where_all_would_take_more_than_two_seconds(
    num_clips: int, model: FusionModel, settings: Config, half: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, seconds = measured_sizes(num_clips, model, settings, half, monkeypatch)
    assert sizes[0] == num_clips
    assert 1 < min(sizes) < num_clips
    assert LIMIT / 2 < seconds < 2
