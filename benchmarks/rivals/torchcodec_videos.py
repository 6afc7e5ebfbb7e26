"""TorchCodec from H.264, in a DataLoader's workers."""

from collections.abc import Iterator

from benchmarks.rivals.base import Clips, Rival, Task
from benchmarks.rivals.videos import APART, video_batches
from pipeline.reader import Bytes


def decode(path: str, num_frames: int) -> Bytes:
    """All frames of a video, [T, H, W, 3]."""
    from torchcodec.decoders import VideoDecoder

    # "approximate" trusts the file's header, which saves a scan; whole ranges are decoded in one call.
    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate")
    frames: Bytes = decoder.get_frames_in_range(0, num_frames).data.numpy()
    return frames


def batches(task: Task) -> Iterator[Clips]:
    """Batches for ever."""
    import torchcodec.decoders  # noqa: F401  # so that a missing FFmpeg is said here

    return video_batches(task, decode)


RIVAL = Rival("TorchCodec, H.264", ("torchcodec", "av"), batches, apart=APART)
