"""Extraction of one video: archives of RGB and flow frames, and a record of them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from crc32c import crc32c
from pydantic import BaseModel, ConfigDict, ValidationError

from common.files import atomic_write, make_folder
from preprocess.sources.tar import tar_writer
from preprocess.videos.decode import Movie, VideoError
from preprocess.videos.encoding import Encoded, ExtractOptions, encode_frames
from preprocess.videos.frame_folder import FrameFolder

AddFile = Callable[[str, bytes], None]  # name, content

MIB = 2**20
VARIES = 1.5  # times the usual interval between frames, beyond which a rate counts as varying
MUCH_CLIPPED = 0.02  # share of a video's flow


class Fingerprint(BaseModel):
    """What tells a file from another version of it, without reading all of it."""

    bytes: int
    crc32c: int  # of the first and the last MiB; of a folder's names, sizes and times


class ArchiveBytes(BaseModel):
    """The sizes of a video's archives."""

    rgb: int
    flow: int


class VideoRecord(BaseModel):
    """What is known of a video that is there whole."""

    model_config = ConfigDict(frozen=True)

    source: Fingerprint
    bytes: ArchiveBytes
    frames: int
    flow_frames: int
    width: int  # pixels, of RGB and flow
    height: int
    clipped: float  # share of the flow beyond the bound
    times: list[float] | None  # seconds, of each frame; None for a folder of frames whose rate is not known
    notes: list[str]  # what was mended, and what may not be as it was meant


class VideoTask(NamedTuple):
    """A video to extract, and where its archives and record go below `frames`."""

    source: Path
    frames: Path
    participant_id: str
    video_id: str
    options: ExtractOptions
    num_threads: int = 1
    counts: Path | None = None  # a file of int64 that tells how many frames of each video are done
    slot: int = 0  # this video's position there

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """The archives of RGB and of flow, and the record, which is written last."""
        folder, name = self.frames / self.participant_id, self.video_id
        return folder / f"rgb_frames/{name}.tar", folder / f"flow_frames/{name}.tar", folder / f"extracted/{name}.json"


def open_source(path: Path, options: ExtractOptions) -> Movie | FrameFolder:
    """The frames of a file, or those that lie in a folder."""
    kind = FrameFolder if path.is_dir() else Movie
    return kind(path, options.short_side, options.fps)


def read_record(task: VideoTask) -> VideoRecord | None:
    """The record of a video that is there whole, of this very file (or it is gone)."""
    rgb, flow, path = task.paths
    try:
        record = VideoRecord.model_validate_json(path.read_bytes())
        sizes = ArchiveBytes(rgb=rgb.stat().st_size, flow=flow.stat().st_size)
        is_same = not task.source.exists() or record.source == fingerprint(task.source)
        return record if is_same and record.bytes == sizes else None
    except (OSError, ValidationError):
        return None


def fingerprint(path: Path) -> Fingerprint:
    """What tells a file, or a folder's files, from another version."""
    if path.is_dir():
        found = ((entry.name, entry.lstat()) for entry in path.iterdir())
        entries = sorted((name, status.st_size, status.st_mtime_ns) for name, status in found)
        return Fingerprint(bytes=sum(entry[1] for entry in entries), crc32c=crc32c(repr(entries).encode()))
    with open(path, "rb") as file:
        first = file.read(MIB)
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - MIB))
        return Fingerprint(bytes=size, crc32c=crc32c(file.read(MIB), crc32c(first)))


def extract_video(task: VideoTask) -> VideoRecord | VideoError:
    """Write archives, then the record, each whole or not at all; return it or the fault."""
    rgb, flow, path = task.paths
    for target in task.paths:
        make_folder(target.parent)
    path.unlink(missing_ok=True)
    source = open_source(task.source, task.options)
    try:
        with tar_writer(rgb) as add_rgb, tar_writer(flow) as add_flow:
            streams = StreamWriter(add_rgb, add_flow, task)
            for encoded in encode_frames(source.frames(), task.options, task.num_threads):
                streams.add(encoded)
            streams.finish()
    except VideoError as error:
        return error
    record = VideoRecord(
        source=fingerprint(task.source),
        bytes=ArchiveBytes(rgb=rgb.stat().st_size, flow=flow.stat().st_size),
        frames=streams.num_frames,
        flow_frames=streams.num_flow,
        width=encoded.width,
        height=encoded.height,
        clipped=round(float(np.mean(streams.clipped)), 6),
        times=None if source.seconds is None else [round(time, 6) for time in source.seconds],
        notes=source.notes,
    )
    record = record.model_copy(update={"notes": [*record.notes, *doubts(record, task.options)]})
    with atomic_write(path, "w") as file:
        file.write(record.model_dump_json())
    return record


class StreamWriter:
    """Writes both streams of a video as its frames come, one by one, and counts them."""

    def __init__(self, add_rgb: AddFile, add_flow: AddFile, task: VideoTask) -> None:
        self._add_rgb, self._add_flow, self._options = add_rgb, add_flow, task.options
        self._counts = None if task.counts is None else np.memmap(task.counts, np.int64, "r+")
        self._slot = task.slot
        self._last: tuple[bytes, bytes] | None = None  # u and v of the last flow frame
        self.num_frames = self.num_flow = 0
        self.clipped: list[float] = []

    def add(self, encoded: Encoded) -> None:
        """Write a frame, and the flow that ends in it."""
        self.num_frames += 1
        self._add_rgb(f"./frame_{self.num_frames:010d}.jpg", encoded.rgb)
        if encoded.flow is not None:
            self._last = encoded.flow
            self.clipped.append(encoded.clipped)
            self._write_flow(encoded.flow)
        if self._counts is not None:
            self._counts[self._slot] = self.num_frames

    def finish(self) -> None:
        """Repeat the last flow frame where none follows, as readers of EPIC's flow do.

        So there are exactly as many flow frames as the stride says, and none can take it for another.

        Raises:
            VideoError: the video is too short for any flow.
        """
        if self._last is None:
            raise VideoError(
                f"has {self.num_frames} frames; flow over --dilation {self._options.dilation} needs one more than that"
            )
        while self.num_flow < -(-self.num_frames // self._options.stride):
            self._write_flow(self._last)

    def _write_flow(self, planes: tuple[bytes, bytes]) -> None:
        self.num_flow += 1
        for plane, jpeg in zip("uv", planes, strict=True):
            self._add_flow(f"./{plane}/frame_{self.num_flow:010d}.jpg", jpeg)


def doubts(record: VideoRecord, options: ExtractOptions) -> list[str]:
    """What of a video may not be as it was meant."""
    found = []
    steps = np.diff(record.times or [])
    usual = float(np.median(steps)) if len(steps) else 0.0
    if options.fps is None and len(steps) and (steps.max() > VARIES * usual or steps.min() < usual / VARIES):
        found.append(
            f"{1000 * steps.min():.0f} to {1000 * steps.max():.0f} ms between frames, usually {1000 * usual:.0f}: "
            f"its flow varies with them; --fps {1 / usual:.4g} would take frames at one rate"
        )
    if record.clipped > MUCH_CLIPPED:
        found.append(f"{record.clipped:.1%} of its flow lies beyond --bound {options.bound:g}")
    return found
