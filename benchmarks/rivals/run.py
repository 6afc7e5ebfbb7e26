"""All rivals: opened, their pixels checked, and what cannot run here left out with a word."""

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import NamedTuple

import torch

from benchmarks.rivals import (
    dali_tfrecord,
    decord_videos,
    litdata_chunks,
    mosaic_shards,
    opencv_loader,
    published,
    simplejpeg_threads,
    spdl_pipeline,
    torchcodec_videos,
    torchvision_loader,
    webdataset_tars,
)
from benchmarks.rivals.base import DALI, Clips, Rival, Task, UnavailableError, window_of
from benchmarks.rivals.pixels import Difference, difference
from pipeline.decoders.dali_install import installed_builds
from pipeline.loader import ClipLoader

RIVALS = [
    module.RIVAL
    for module in (
        published,
        opencv_loader,
        torchvision_loader,
        simplejpeg_threads,
        dali_tfrecord,
        spdl_pipeline,
        litdata_chunks,
        mosaic_shards,
        webdataset_tars,
        torchcodec_videos,
        decord_videos,
    )
]
CHECKED = 2  # batches whose pixels are compared


class Opened(NamedTuple):
    """A rival that runs: the sizes of its endless batches; versions; how far its pixels are off."""

    sizes: Iterator[int]
    versions: str
    pixels: Difference


def open_rival(rival: Rival, task: Task) -> Opened | str:
    """Open a rival and compare the pixels of its first batches; or say in a line why it is left out."""
    try:
        return _open(rival, task)
    except Exception as error:  # whatever a package does that was not made for this machine: the others go on
        return next(iter(str(error).splitlines()), "") or type(error).__name__


def our_loader(name: str, open_loader: Callable[[], ClipLoader]) -> Rival:
    """The project's own loader as a rival, so that its pixels are checked alike."""

    def batches(_: Task) -> Iterator[Clips]:
        with open_loader() as loader:
            while True:
                for batch in loader:
                    assert batch.rgb is not None
                    assert batch.flow is not None
                    windows = torch.stack([window_of(view) for view in batch.views])
                    yield Clips(batch.rgb, batch.flow, batch.clips, windows)

    return Rival(name, (), batches, from_extra=False)


def _open(rival: Rival, task: Task) -> Opened:
    versions = ", ".join(f"{name} {number}" for name, number in versions_of(rival))
    batches = rival.open(task)
    first = [next(batches) for _ in range(CHECKED)]
    found = [difference(batch, task, rival) for batch in first]
    pixels = Difference(max(each.largest for each in found), sum(each.mean for each in found) / len(found))
    if not (pixels.mean <= rival.apart if rival.apart else pixels.largest <= 1):  # 1: decoders of other processors
        raise UnavailableError(f"it loads other pixels: {pixels} levels")
    return Opened(sizes(chain(first, batches)), versions, pixels)


def versions_of(rival: Rival) -> Iterator[tuple[str, str]]:
    """The rival's packages with their versions.

    Raises:
        UnavailableError: one is not installed.
    """
    for name in rival.packages:
        if name == DALI:
            yield from installed_builds().items()
            continue
        try:
            yield name, version(name)
        except PackageNotFoundError:
            raise UnavailableError(f"{name} is not installed; pip install '.[rivals]'") from None


def sizes(batches: Iterable[Clips]) -> Iterator[int]:
    """The number of clips of each batch."""
    for batch in batches:
        yield len(batch.clips)
