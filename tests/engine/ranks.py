"""What four ranks see and compute, written by the first of them for a test to compare: `python -m ... SPLIT OUT`."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine.runtime.world import World, joined_world
from models.trunks.trunk import BatchNorm3d
from pipeline.loader import ClipLoader
from tests.sync_batchnorm import synchronize_on_cpus

BATCH, EPOCHS = 4, 2
Seen = list[tuple[int, str]]  # clip, and a digest of its view and pixels


def steps(split: str, rank: int = 0, world_size: int = 1) -> Iterator[Seen]:
    """What a rank sees of each step of two epochs."""
    view = {"num_frames": 8, "crop_size": 48, "rank": rank, "world_size": world_size}
    with ClipLoader(split, BATCH // world_size, **view, temporal="jitter", scale=(0.5, 1.0)) as loader:
        for _ in range(EPOCHS):
            for batch in loader:
                assert batch.rgb is not None
                assert batch.flow is not None
                clips = zip(batch.clips.tolist(), batch.views, batch.rgb, batch.flow, strict=True)
                yield [(clip, digest(repr(view), rgb, flow)) for clip, view, rgb, flow in clips]


def digest(text: str, *tensors: Tensor) -> str:
    found = hashlib.sha256(text.encode())
    for tensor in tensors:
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def normalized(parts: int, part: int) -> dict[str, Tensor]:
    """Output, gradients and statistics of a BatchNorm on one of `parts` of eight clips far from zero."""
    torch.manual_seed(0)
    clips = (100 + torch.randn(8, 3, 2, 4, 4)).chunk(parts)[part].requires_grad_()
    weights = torch.randn(8, 3, 2, 4, 4).chunk(parts)[part]
    net = nn.Sequential(BatchNorm3d(3, momentum=0.3))
    nn.init.normal_(net[0].weight)
    nn.init.normal_(net[0].bias)
    if parts > 1:
        synchronize_on_cpus(net, clips.device)
    output = net(clips)
    (output * weights).sum().backward()
    net.eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    gradients = {f"{name}.grad": parameter.grad for name, parameter in net.named_parameters()}
    return {"output": output.detach(), "clips.grad": clips.grad, "scored": net(clips).detach(), **state, **gradients}


def joined(shares: Iterable[Iterable[Seen]]) -> list[Seen]:
    """The steps of all ranks together, from what each of them saw."""
    return [list(chain(*parts)) for parts in zip(*shares, strict=True)]


def collect(world: World, split: str) -> dict[str, object]:
    seen: list[list[Seen]] = [[] for _ in range(world.size)]
    dist.all_gather_object(seen, list(steps(split, world.rank, world.size)))
    norm = normalized(world.size, world.rank)
    whole = {name: world.gather(norm[name]) for name in ("output", "clips.grad", "scored")}
    sums = {name: world.sum(value) for name, value in norm.items() if name.startswith("0.") and "grad" in name}
    return {
        "steps": joined(seen),
        "norm": norm | whole | sums,
        "any": [world.any_rank(world.rank == 2), world.any_rank(False)],
        "sum": world.sum(torch.tensor(2.0**world.rank)),
    }


if __name__ == "__main__":
    with joined_world(torch.device("cpu"), timedelta(seconds=60)) as world:
        found = collect(world, sys.argv[1])
        if world.is_main:
            torch.save(found, sys.argv[2])
