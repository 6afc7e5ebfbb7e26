"""What a training step of X-Norm costs beside the published form of the same network, and what was gained where.

    python -m benchmarks.training_step [--rounds 3] [--threads 1] [--batch-size 2] [--frames 16] [--size 224]

A step is forward, backward, clipping and AdamW, in fp32 on the CPU. Each row has one thing more that is done otherwise
than in the row before. All start from the same weights; rounds are interleaved, and a ratio is one of a round.
"""

import argparse
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from benchmarks.published_xnorm import PaddedConv3d, PaddedMaxPool3d, PublishedXNorm, Unit
from models import build_model
from models.trunks import i3d
from models.xnorm import norm_exchange
from pipeline.profile.measure import Timings, interleave
from pipeline.profile.report import markdown_table, spread

CLASSES = 8
Mend = Callable[[PublishedXNorm], None]


class Inputs:
    """Clips as floats in [-1, 1], and labels."""

    def __init__(self, batch_size: int, frames: int, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (frames, size, size)
        self.rgb = 2 * torch.rand(batch_size, 3, *shape, generator=generator) - 1
        self.flow = 2 * torch.rand(batch_size, 2, *shape, generator=generator) - 1
        self.labels = torch.randint(CLASSES, (batch_size,), generator=generator)
        self.window = (-(-frames // 8), -(-size // 32), -(-size // 32))  # what the trunk leaves


def broadcast_statistics(model: PublishedXNorm) -> None:
    """Let an exchange spread its statistics by broadcasting, over no maps of their own."""
    model.exchange = norm_exchange  # type: ignore[assignment]  # the names of its arguments differ


def pad_inside(model: PublishedXNorm) -> None:
    """Let convolutions and pooling pad by themselves wherever they can, and ReLU work in place."""
    for trunk in (model.rgb_enc, model.flow_enc):
        signed = True
        for name, stage in list(trunk.named_children()):
            for path, module in list(stage.named_modules(prefix=name)):
                if isinstance(module, PaddedConv3d):
                    module.__class__ = i3d.SameConv3d  # type: ignore[assignment]  # the same attributes
                elif isinstance(module, Unit):
                    module.__class__ = i3d.Unit  # type: ignore[assignment]
                elif isinstance(module, PaddedMaxPool3d):
                    kernel, stride = ((a, b, c) for a, b, c in (module.kernel_size, module.stride))
                    parent, _, leaf = path.rpartition(".")
                    setattr(trunk.get_submodule(parent), leaf, i3d.SameMaxPool3d(kernel, stride, signed))
            signed = name in ("Mixed_3b", "Mixed_4d", "Mixed_5c")


def forms(inputs: Inputs, state: dict[str, Tensor]) -> dict[str, tuple[nn.Module, bool]]:
    """The network in each form, and whether AdamW is the fused one; in the order of the table."""

    def published(*mends: Mend) -> nn.Module:
        model = PublishedXNorm(CLASSES, window=inputs.window)
        model.load_state_dict(state)
        for mend in mends:
            mend(model)
        return model

    ours = build_model("xnorm", num_classes=CLASSES).to(memory_format=torch.channels_last_3d)
    ours.load_state_dict(state)
    return {
        "the published form": (published(), False),
        "AdamW in one pass": (published(), True),
        "statistics broadcast": (published(broadcast_statistics), True),
        "padding inside the kernels, ReLU in place": (published(broadcast_statistics, pad_inside), True),
        "**here**: channels last, 1x1x1 convolutions as products": (ours, True),
    }


def train(model: nn.Module, fused: bool, inputs: Inputs) -> Iterator[int]:
    """Take steps for ever; yields the number of clips of each."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4, fused=fused)
    model.train()
    while True:
        optimizer.zero_grad()
        loss(model, inputs).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield len(inputs.labels)


def score(model: nn.Module, inputs: Inputs) -> Iterator[int]:
    """Score the clips for ever, as evaluation does; yields the number of clips of each batch."""
    model.eval()
    while True:
        with torch.inference_mode():
            model(inputs.rgb, inputs.flow)
        yield len(inputs.labels)


def loss(model: nn.Module, inputs: Inputs) -> Tensor:
    """The loss on the clips."""
    return F.cross_entropy(model(inputs.rgb, inputs.flow).logits, inputs.labels)


def differences(one: nn.Module, other: nn.Module, inputs: Inputs) -> tuple[float, float]:
    """How far logits and gradients of two forms are apart, without dropout: shares of the norms of `other`'s."""
    found = []
    for model in (one, other):
        model.eval()
        output = model(inputs.rgb, inputs.flow).logits
        gradients = torch.autograd.grad(F.cross_entropy(output, inputs.labels), list(model.parameters()))
        by_name = dict(zip(dict(model.named_parameters()), gradients, strict=True))
        found.append((output.detach(), torch.cat([by_name[name].flatten() for name in sorted(by_name)])))
    apart = [((a - b).norm() / b.norm()).item() for a, b in zip(*found, strict=True)]
    return apart[0], apart[1]


def ratios(results: dict[str, Timings], name: str, base: str) -> list[float]:
    """CPU time of `name` over that of `base`, round by round."""
    return [a / b for a, b in zip(results[name].cpu_ms, results[base].cpu_ms, strict=True)]


def rows(results: dict[str, Timings]) -> list[list[str]]:
    """A row a form: CPU seconds a step's clip and the ratio to the first form's."""
    base = next(iter(results))
    return [
        [name, spread([ms / 1e3 for ms in rounds.cpu_ms], ".2f"), spread(ratios(results, name, base), ".2f")]
        for name, rounds in results.items()
    ]


def main() -> None:
    """Measure and print two tables, of training and of scoring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    inputs = Inputs(arguments.batch_size, arguments.frames, arguments.size)
    state = PublishedXNorm(CLASSES, window=inputs.window).state_dict()
    models = forms(inputs, state)
    names = list(models)
    logits, gradients = differences(models[names[-1]][0], models[names[0]][0], inputs)
    print(
        f"{arguments.batch_size} clips of {arguments.frames} x {arguments.size} x {arguments.size}, {arguments.threads}"
    )
    print(
        f"thread(s), medians of {arguments.rounds} interleaved rounds with their range. Without dropout, the logits of"
    )
    print(f"the first and the last form differ by {logits:.1e} of their norm, the gradients by {gradients:.1e}.\n")
    rounds = {"rounds": arguments.rounds, "batches": 1, "warmup": 1}
    trained = dict(interleave({name: train(*model, inputs) for name, model in models.items()}, **rounds))
    print(markdown_table(["a training step", "CPU s a clip", "of the published"], rows(trained)), flush=True)
    ends = {name: score(models[name][0], inputs) for name in (names[0], names[-1])}
    scored = dict(interleave(ends, **rounds))
    print("\n" + markdown_table(["scoring", "CPU s a clip", "of the published"], rows(scored)))


if __name__ == "__main__":
    main()
