"""WebDataset: tar shards that hold the JPEGs, batched in the workers of a WebLoader."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import default_collate

from benchmarks.rivals.base import Clips, Rival, Task
from benchmarks.rivals.crops import Item, crop_jpegs, loader_options, repeat

SHARDS = 8  # at least, each for one worker
SHUFFLED = 100  # clips in a worker's buffer


def write(task: Task) -> list[str]:
    """Write the shards; their paths."""
    import webdataset

    folder = task.scratch / "webdataset"
    folder.mkdir()
    per_shard = -(-len(task) // max(SHARDS, task.num_threads))
    with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=per_shard, verbose=0) as writer:
        for index in range(len(task)):
            sample = task.sample(index)
            files = {f"{name}.jpg": data for name, data in sample.items() if name != "clip"}
            writer.write({"__key__": f"{index:09d}", **files})
    return sorted(map(str, folder.glob("*.tar")))


def batches(task: Task) -> Iterator[Clips]:
    """Write the shards, then batches for ever."""
    import webdataset

    def decode(sample: dict[str, Any]) -> Item:
        files = task.files_of({name.removesuffix(".jpg"): data for name, data in sample.items()})
        return crop_jpegs(files, task.view(int(sample["__key__"])))

    data = webdataset.WebDataset(write(task), resampled=True, shardshuffle=False).shuffle(SHUFFLED).map(decode)
    data = data.batched(task.batch_size, partial=False, collation_fn=default_collate)
    options = loader_options(task) | {"batch_size": None, "drop_last": False}
    return repeat(webdataset.WebLoader(data, **options))


RIVAL = Rival("WebDataset", ("webdataset",), batches)
