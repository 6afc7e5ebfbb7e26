"""Precision check before a run: half-precision convolutions against fp32, which libraries have got wrong."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.errors import UserError
from configs.schema import ClipSection, Config
from engine.model_cost import black_clips
from engine.runtime.device import DTYPES, Placement
from engine.runtime.session import RunContext
from models.fusion import FusionModel

LIMIT = 1.2  # seconds for all comparisons, which may take half of it more; the pass that finds them comes on top
EXPLAINED = 6  # epsilons of the precision, of the largest value; rounding alone was seen to make up to 1.9
LISTED = 4  # convolutions in a message


@dataclass(frozen=True)
class Convolution:
    """A convolution with the input that it gets from one clip; others of the model may be alike."""

    name: str
    module: nn.Conv3d
    shape: torch.Size  # of the input
    learns: bool  # whether the input needs a gradient
    work: int  # multiply-adds


def check_convolutions(model: FusionModel, config: Config, session: RunContext, training: bool = True) -> None:
    """Compare each kind of convolution in `model` with fp32: outputs, and gradients where it is trained.

    Weights are the model's, clips are as large as the run's and noise, and the algorithm is the library's first choice.
    What takes longer than the time limit is compared on fewer clips at once. In fp32 there is nothing to compare.

    Raises:
        UserError: one of them differs by more than rounding explains, on this rank or on another.
    """
    if session.placement.precision == "fp32":
        return
    batch_size = max(1, session.world.local_batch_size(config.loader.batch_size) // config.train.accumulate)

    def work() -> None:
        with torch.set_grad_enabled(training), _plain_libraries():
            wrong = compare(find_convolutions(model, config.clip, session.placement), batch_size, session.placement)
        if wrong:
            raise UserError(_describe(wrong, session.placement))

    session.world.run_on_all_ranks(work)


def find_convolutions(model: FusionModel, clip: ClipSection, placement: Placement) -> list[Convolution]:
    """Run one clip through `model` and note its convolutions, those that are alike once; the least work comes first."""
    found: dict[tuple[object, ...], Convolution] = {}
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.Conv3d)}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv3d)
        x, weight = inputs[0], module.weight
        key = type(module), x.shape, x.requires_grad, weight.shape, weight.requires_grad, module.stride, module.padding
        work = output.numel() * weight[0].numel()
        found.setdefault(key, Convolution(names[module], module, x.shape, x.requires_grad, work))

    hooks = [module.register_forward_hook(note) for module in names]
    was_training = model.training
    try:
        with placement.autocast():
            model.eval()(*black_clips(model, clip, 1, placement.device))  # no statistics change, nothing is dropped
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return sorted(found.values(), key=lambda convolution: convolution.work)


def compare(convolutions: list[Convolution], batch_size: int, placement: Placement) -> dict[str, dict[str, float]]:
    """Return for each wrong convolution what of it differs, as a share of the largest value; the name is the key."""
    bound = EXPLAINED * torch.finfo(DTYPES[placement.precision]).eps
    wrong: dict[str, dict[str, float]] = {}
    started, pace = time.perf_counter(), 0.0  # seconds that the last one took for a multiply-add
    work_left = sum(convolution.work for convolution in convolutions)
    for convolution in convolutions:
        begun = time.perf_counter()
        share = (LIMIT - (begun - started)) * convolution.work / work_left
        affordable = max(share, LIMIT / 2 / len(convolutions)) / convolution.work / pace if pace else batch_size
        clips = max(1, min(batch_size, int(affordable)))
        differences = measure(convolution, clips, placement)
        if not all(difference <= bound for difference in differences.values()):
            wrong[convolution.name] = differences
        pace = (time.perf_counter() - begun) / (clips * convolution.work)
        work_left -= convolution.work
    return wrong


def measure(convolution: Convolution, clips: int, placement: Placement) -> dict[str, float]:
    """Return how far output and gradients are from fp32's, in their largest difference over the largest value."""
    generator = torch.Generator(placement.device).manual_seed(0)  # one of its own: the run's random numbers stay
    shape = (clips * convolution.shape[0], *convolution.shape[1:])
    x = torch.randn(shape, generator=generator, device=placement.device).to(memory_format=torch.channels_last_3d)
    x.requires_grad_(convolution.learns)
    with torch.no_grad():
        noise = convolution.module(x).normal_(generator=generator)
    exact = _run(convolution, x, noise, Placement(placement.device))
    return {name: _difference(value, exact[name]) for name, value in _run(convolution, x, noise, placement).items()}


def _run(convolution: Convolution, x: Tensor, noise: Tensor, placement: Placement) -> dict[str, Tensor]:
    """Return the output, and the gradients where `noise` is that of the output."""
    with placement.autocast():
        output = convolution.module(x)
    named = {"gradient of the input": x, "gradient of the weights": convolution.module.weight}
    learning = {name: tensor for name, tensor in named.items() if tensor.requires_grad and output.requires_grad}
    gradients = torch.autograd.grad(output, [*learning.values()], noise.to(output.dtype)) if learning else ()
    return {"output": output.detach(), **dict(zip(learning, gradients, strict=True))}


def _difference(value: Tensor, exact: Tensor) -> float:
    largest = exact.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float(((value.float() - exact).abs().max() / largest).nan_to_num(torch.inf, torch.inf))


@contextmanager
def _plain_libraries() -> Iterator[None]:
    """Let fp32 be fp32 on a GPU, and let no time go into trying out algorithms."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        yield


def _describe(wrong: dict[str, dict[str, float]], placement: Placement) -> str:
    device, dtype = placement.device, DTYPES[placement.precision]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    found = [f"{name} ({', '.join(map(_figure, far, far.values()))})" for name, far in list(wrong.items())[:LISTED]]
    more = f"; and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
    return (
        f"train.precision: {placement.precision} convolutions are computed wrongly here ({where}, torch "
        f"{torch.__version__}, cuDNN {cudnn}); off from fp32 by, of the largest value: {'; '.join(found)}{more}; "
        f"rounding explains {EXPLAINED * torch.finfo(dtype).eps:.1%}; set train.precision=fp32, or take another torch"
    )


def _figure(name: str, difference: float) -> str:
    return f"{name} {difference:.2%}" if difference < torch.inf else f"{name} not finite"
