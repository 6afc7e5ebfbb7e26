"""decord2 from H.264, in a DataLoader's workers."""

from collections.abc import Iterator

from benchmarks.rivals.base import Clips, Rival, Task
from benchmarks.rivals.videos import APART, video_batches
from pipeline.reader import Bytes


def decode(path: str, num_frames: int) -> Bytes:
    """All frames of a video, [T, H, W, 3]."""
    import decord

    frames: Bytes = decord.VideoReader(path, num_threads=1).get_batch(range(num_frames)).asnumpy()
    return frames


def batches(task: Task) -> Iterator[Clips]:
    """Batches for ever."""
    return video_batches(task, decode)


RIVAL = Rival("decord2, H.264", ("decord2", "av"), batches, apart=APART)
