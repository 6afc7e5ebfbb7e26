"""MosaicML Streaming: MDS shards that hold the JPEGs, a StreamingDataset that decodes, a DataLoader's workers."""

from collections.abc import Iterator

from benchmarks.rivals.base import Clips, Rival, Task
from benchmarks.rivals.crops import Item, crop_jpegs, loader_options, repeat


def batches(task: Task) -> Iterator[Clips]:
    """Write the shards, then batches for ever."""
    from streaming import MDSWriter, StreamingDataLoader, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    class Decoded(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, at: int) -> Item:
            sample = super().__getitem__(at)
            return crop_jpegs(task.files_of(sample), task.view(sample["clip"]))

    folder = task.scratch / "mds"
    columns = {name: "int" if name == "clip" else "bytes" for name in task.sample(0)}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for index in range(len(task)):
            writer.write(task.sample(index))
    clean_stale_shared_memory()
    data = Decoded(local=str(folder), shuffle=True, batch_size=task.batch_size)
    return repeat(StreamingDataLoader(data, **loader_options(task)))


RIVAL = Rival("MosaicML Streaming", ("mosaicml-streaming",), batches)
