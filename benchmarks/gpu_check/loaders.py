"""Loading alone: by the CPU, and by DALI on the device with its engines' share, whole, windowed and trimmed."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain, islice, repeat
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.gpu_check.base import WARMUP, Check, Row, Setup
from pipeline.batch import Batch
from pipeline.loader import ClipLoader
from pipeline.profile.measure import cpu_seconds

ENGINE_SHARES = (0.0, 0.65, 0.9)  # of a batch that goes to the hardware decoder: DALI's hw_decoder_load
MOST_OFF = {"turbojpeg": 0.0, "dali": 1.0}  # levels on average: a GPU's decoder rounds otherwise


def open_loader(setup: Setup, form: str, decoder: str, engine_share: float | None = None, **changes: Any) -> ClipLoader:
    """A loader whose graph decodes `form`: "whole" images, a "window" of them, or "trimmed" JPEGs."""
    config, stack = setup.config, ExitStack()
    if form == "trimmed":
        config = config.model_copy(update={"data": config.data.model_copy(update={"shards": setup.restarts})})
    if decoder == "dali":
        stack = _graph(form, engine_share)
    with stack:
        return ClipLoader.from_config(
            config, "train", train=True, device=str(setup.device), decoder=decoder, temporal="uniform", **changes
        )


def _graph(form: str, engine_share: float | None) -> ExitStack:
    """While entered, the graph's operators are given the engines' share; "whole" is decoded, and then cut."""
    from nvidia.dali import fn

    share = {} if engine_share is None else {"hw_decoder_load": engine_share}
    image, image_slice = fn.decoders.image, fn.decoders.image_slice

    def whole(jpegs: Any, anchor: Any, shape: Any, *, axes: Any, **options: Any) -> Any:
        options = {key: value for key, value in options.items() if not key.startswith("normalized_")}
        return fn.slice(image(jpegs, **options, **share), start=anchor, shape=shape, axes=axes)

    window = partial(image_slice, **share)
    stack = ExitStack()
    stack.enter_context(patch.object(fn.decoders, "image_slice", whole if form == "whole" else window))
    stack.enter_context(patch.object(fn.decoders, "image", partial(image, **share)))
    return stack


def run(setup: Setup) -> Iterator[Row]:
    """A row per way: clips per second, cores that were busy, and how far the pixels are from the CPU's."""
    ways: list[tuple[str, str, float | None]] = [("window", "turbojpeg", None), ("trimmed", "turbojpeg", None)]
    ways += [(form, "dali", share) for form in ("whole", "window", "trimmed") for share in ENGINE_SHARES]
    with open_loader(setup, "window", "turbojpeg") as loader:
        expected = next(iter(loader))
    for form, decoder, share in ways:
        with open_loader(setup, form, decoder, share) as loader:
            batches = chain.from_iterable(repeat(loader))
            off = differences(next(batches), expected)
            for batch in islice(batches, WARMUP):
                batch.labels.cpu()
            setup.finish()
            begin, cpu, clips = time.perf_counter(), cpu_seconds(), 0
            for batch in islice(batches, setup.steps):
                clips += len(batch)
            setup.finish()
            seconds, cpu = time.perf_counter() - begin, cpu_seconds() - cpu
        on_device = {"cuda": "mixed"}.get(setup.device.type, "cpu")
        yield {
            "decoded": form,
            "by": "cpu" if decoder == "turbojpeg" else on_device,
            "hw_decoder_load": "" if share is None else share,
            "clips/s": clips / seconds,
            "CPU cores": cpu / seconds,
            **{f"{name} levels off": value for name, value in off.items()},
            "ok": off["mean"] <= MOST_OFF[decoder],
        }


def differences(batch: Batch, expected: Batch) -> dict[str, float]:
    """How far pixels of the same clips are apart, in levels."""
    off = torch.cat([_apart(batch.rgb, expected.rgb), _apart(batch.flow, expected.flow)])
    return {"mean": float(off.mean()), "largest": float(off.max())}


def _apart(one: Tensor | None, other: Tensor | None) -> Tensor:
    assert one is not None
    assert other is not None
    return (one.float() - other.float()).abs().flatten()


CHECK = Check("loaders", "loading alone, with the pixels of the first batch against the CPU's", run)
