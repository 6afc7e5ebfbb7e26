"""Stages: the loader cut off after each of them, to be measured side by side."""

from collections.abc import Iterator
from itertools import cycle, islice

from configs.schema import Config
from pipeline.decoders.pool import PoolDecoder
from pipeline.fetcher import EncodedBatch
from pipeline.loader import ClipLoader

PLAIN = {"temporal": "uniform", "mirror": 0.0, "scale": (1.0, 1.0), "color": 0.0, "rescale_flow": False}


def stage_candidates(config: Config, split: str) -> dict[str, Iterator[int]]:
    """Endless runs over the training batches; each yields the number of clips per batch.

    "floor": the decoder alone, fed from memory. "reading": views, bytes and CRCs, nothing decoded. "decoding": both.
    "copy-out": the whole loader without augmentation (a pool of threads has copied as it decoded). "loader": the loader
    as the config has it.
    """

    def open_loader(**changes: object) -> ClipLoader:
        return ClipLoader.from_config(config, split, train=True, **changes)

    return {
        "floor": _decode(open_loader(**PLAIN), from_memory=True),
        "reading": _read(open_loader(**PLAIN)),
        "decoding": _decode(open_loader(**PLAIN), from_memory=False),
        "copy-out": loader_batches(open_loader(**PLAIN)),
        "loader": loader_batches(open_loader()),
    }


def stage_costs(cpu_ms: dict[str, float]) -> dict[str, float]:
    """CPU ms per clip of each stage, from those of the runs that are cut off after it."""
    return {
        "reading": cpu_ms["reading"],
        "decode": cpu_ms["decoding"] - cpu_ms["reading"],
        "copy-out": cpu_ms["copy-out"] - cpu_ms["decoding"],
        "augment": cpu_ms["loader"] - cpu_ms["copy-out"],
    }


def loader_batches(loader: ClipLoader) -> Iterator[int]:
    """Endless batches of a loader, epoch after epoch; yields the number of clips of each."""
    with loader:
        while True:
            for batch in loader:
                yield len(batch)


def _prepared(loader: ClipLoader) -> Iterator[EncodedBatch]:
    while True:
        for plan in iter(loader.sampler):
            yield loader.fetcher.fetch(plan)


def _read(loader: ClipLoader) -> Iterator[int]:
    with loader:
        for batch in _prepared(loader):
            yield len(batch.views)


def _decode(loader: ClipLoader, *, from_memory: bool) -> Iterator[int]:
    """Decode and let go; `from_memory` feeds a few batches that were read before, over and over."""
    with loader:
        batches = cycle(islice(_prepared(loader), 8)) if from_memory else _prepared(loader)
        in_flight = []
        for batch in batches:
            in_flight.append(batch)
            for stream, decoder in loader.decoders.items():
                decoder.send(batch.encoded[stream], batch.views_of[stream])
            if len(in_flight) > loader.prefetch:
                for decoder in loader.decoders.values():
                    # A pool copies as it decodes, and what it is to discard it would not begin.
                    decoder.receive() if isinstance(decoder, PoolDecoder) else decoder.discard()
                yield len(in_flight.pop(0).views)
