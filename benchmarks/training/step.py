"""What a training step of X-Norm costs beside the published form of the same network, and what was gained where.

    python -m benchmarks.training.step [--rounds 3] [--threads 1] [--batch-size 2] [--frames 16] [--size 224]

A step is forward, backward, clipping and AdamW, in fp32 on the CPU. Each row has one thing more that is done otherwise
than in the row before. All start from the same weights; rounds are interleaved, and a ratio is one of a round.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from benchmarks.command import argument_parser
from benchmarks.training.published_xnorm import CLASSES, published_xnorm
from models import build_model
from pipeline.profile.measure import Timings, interleave, ratios
from pipeline.profile.report import markdown_table, spread


class Inputs:
    """Clips as floats in [-1, 1], and labels."""

    def __init__(self, batch_size: int, frames: int, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (frames, size, size)
        self.rgb = 2 * torch.rand(batch_size, 3, *shape, generator=generator) - 1
        self.flow = 2 * torch.rand(batch_size, 2, *shape, generator=generator) - 1
        self.labels = torch.randint(CLASSES, (batch_size,), generator=generator)


def forms(state: dict[str, Tensor], width: float = 1.0) -> dict[str, tuple[nn.Module, bool]]:
    """The network in each form, and whether AdamW is the fused one; in the order of the table."""
    ours = build_model("xnorm", num_classes=CLASSES, width=width).to(memory_format=torch.channels_last_3d)
    models = {
        "the published form": (published_xnorm(width=width), False),
        "AdamW in one pass": (published_xnorm(width=width), True),
        "statistics broadcast": (published_xnorm(repeats=False, width=width), True),
        "padding inside the kernels, ReLU in place": (published_xnorm(pads=False, repeats=False, width=width), True),
        "**here**: channels last, 1x1x1 convolutions as products": (ours, True),
    }
    for model, _ in models.values():
        model.load_state_dict(state)
    return models


def train(model: nn.Module, fused: bool, inputs: Inputs) -> Iterator[int]:
    """Take steps for ever; yields the number of clips of each."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4, fused=fused)
    model.train()
    while True:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs.rgb, inputs.flow).logits, inputs.labels)
        loss.backward()  # type: ignore[no-untyped-call]
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


def differences(one: nn.Module, other: nn.Module, inputs: Inputs) -> tuple[float, float]:
    """How far logits and gradients of two forms are apart, without dropout: shares of the norms of `other`'s."""
    found = []
    for model in (one, other):
        model.eval()
        output = model(inputs.rgb, inputs.flow).logits
        gradients = torch.autograd.grad(F.cross_entropy(output, inputs.labels), list(model.parameters()))
        found.append((output.detach(), torch.cat([gradient.flatten() for gradient in gradients])))
    apart = [((a - b).norm() / b.norm()).item() for a, b in zip(*found, strict=True)]
    return apart[0], apart[1]


def rows(results: dict[str, Timings]) -> list[list[str]]:
    """A row per form: CPU seconds per clip, and their ratios to the first form's, round by round."""
    base = next(iter(results.values())).cpu_ms
    return [
        [name, spread([ms / 1e3 for ms in taken.cpu_ms], ".2f"), spread(ratios(taken.cpu_ms, base), ".2f")]
        for name, taken in results.items()
    ]


def main() -> None:
    """Measure and print two tables, of training and of scoring."""
    parser = argument_parser(__doc__, rounds=3)
    for option, default in (("--threads", 1), ("--batch-size", 2), ("--frames", 16), ("--size", 224)):
        parser.add_argument(option, type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    inputs = Inputs(arguments.batch_size, arguments.frames, arguments.size)
    models = forms(build_model("xnorm", num_classes=CLASSES).state_dict())
    names = list(models)
    logits, gradients = differences(models[names[-1]][0], models[names[0]][0], inputs)
    print(
        f"{arguments.batch_size} clips of {arguments.frames} x {arguments.size} x {arguments.size}, "
        f"{arguments.threads} thread(s), medians of {arguments.rounds} interleaved rounds with their range.\n"
        f"Without dropout, the logits of the first and the last form differ by {logits:.1e} of their norm, the\n"
        f"gradients by {gradients:.1e}.\n"
    )
    rounds = {"rounds": arguments.rounds, "batches": 1, "warmup": 1}
    trained = dict(interleave({name: train(*model, inputs) for name, model in models.items()}, **rounds))
    print(markdown_table(["a training step", "CPU s per clip", "of the published"], rows(trained)), flush=True)
    ends = {name: score(models[name][0], inputs) for name in (names[0], names[-1])}
    scored = dict(interleave(ends, **rounds))
    print("\n" + markdown_table(["scoring", "CPU s per clip", "of the published"], rows(scored)))


if __name__ == "__main__":
    main()
