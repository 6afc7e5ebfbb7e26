"""LitData: chunks that hold the JPEGs, a StreamingDataset that decodes, its DataLoader's workers."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.rivals.base import Clips, Rival, Task
from benchmarks.rivals.crops import Item, crop_jpegs, loader_options, repeat


def transform(task: Task, sample: dict[str, Any]) -> Item:
    """Decode and cut a stored clip."""
    return crop_jpegs(task.files_of(sample), task.view(sample["clip"]))


def batches(task: Task) -> Iterator[Clips]:
    """Write the chunks, then batches for ever."""
    import litdata

    folder = task.scratch / "litdata"
    litdata.optimize(
        partial(Task.sample, task),
        inputs=list(range(len(task))),
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
        start_method="fork",
        verbose=False,
    )
    data = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=True, transform=partial(transform, task))
    return repeat(litdata.StreamingDataLoader(data, **loader_options(task)))


RIVAL = Rival("LitData", ("litdata",), batches)
