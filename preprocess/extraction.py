"""Turns one video into two archives, RGB frames and flow, and a record that says that they are whole."""

import io
import json
import tarfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c

from configs.files import atomic_write, make_folder
from preprocess.flow import FlowMethod, flow_method, quantise, share_clipped
from preprocess.videos import Frame, Pixels, VideoError, at_rate, read_frames

MIB = 2**20


@dataclass(frozen=True)
class ExtractOptions:
    """All that decides what a video becomes.

    Attributes:
        short_side: pixels; 0 keeps frames as they are.
        fps: frames a second that are taken; None: every frame.
        quality, flow_quality: of the JPEGs, 1 to 100 as libjpeg counts.
        flow: a name in METHODS.
        bound: pixels; flow beyond it is clipped.
        stride: RGB frames a flow frame, 1 or 2.
        dilation: flow frame k is the motion from RGB frame t = (k - 1) * stride + 1 to frame t + dilation.
    """

    short_side: int = 256
    fps: float | None = None
    quality: int = 81
    flow: str = "dis"
    bound: float = 20.0
    stride: int = 1
    dilation: int = 1
    flow_quality: int = 95


@dataclass(frozen=True)
class VideoTask:
    """A video, and where what becomes of it goes: <frames>/<participant>/{rgb_frames,flow_frames}/<video>.tar."""

    source: Path
    frames: Path
    participant_id: str
    video_id: str
    options: ExtractOptions

    @property
    def rgb(self) -> Path:
        """The archive of RGB frames."""
        return self.frames / self.participant_id / "rgb_frames" / f"{self.video_id}.tar"

    @property
    def flow(self) -> Path:
        """The archive of flow frames."""
        return self.frames / self.participant_id / "flow_frames" / f"{self.video_id}.tar"

    @property
    def record(self) -> Path:
        """What is known of the video; it is written last."""
        return self.frames / self.participant_id / "extracted" / f"{self.video_id}.json"


def read_record(task: VideoTask) -> dict[str, Any] | None:
    """The record of a video that is there whole and was made of this very file (or the file is gone); else None."""
    try:
        record = json.loads(task.record.read_text("utf-8"))
        sizes = {"rgb": task.rgb.stat().st_size, "flow": task.flow.stat().st_size}
        is_same = not task.source.exists() or record["source"] == describe_source(task.source)
        return record if is_same and record["bytes"] == sizes else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def describe_source(path: Path) -> dict[str, int]:
    """What tells a file from another version of it, without reading all of it: its size, and its first and last MiB."""
    with open(path, "rb") as file:
        first = file.read(MIB)
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - MIB))
        return {"bytes": size, "crc32c": crc32c(file.read(MIB), crc32c(first))}


def extract_video(task: VideoTask) -> dict[str, Any] | VideoError:
    """Write the video's archives and then its record, each whole or not at all; returns the record or what is wrong."""
    for path in (task.rgb, task.flow, task.record):
        make_folder(path.parent)
    task.record.unlink(missing_ok=True)
    found = Found()
    try:
        with tar_writer(task.rgb) as rgb, tar_writer(task.flow) as flow:
            streams = Streams(rgb, flow, task.options, found)
            for frame in at_rate(read_frames(task.source, task.options.short_side), task.options.fps):
                streams.add(frame)
            streams.finish()
    except VideoError as error:
        return error
    record = {
        "source": describe_source(task.source),
        "bytes": {"rgb": task.rgb.stat().st_size, "flow": task.flow.stat().st_size},
        "frames": len(found.times),
        "flow_frames": -(-len(found.times) // task.options.stride),
        "width": found.width,
        "height": found.height,
        "clipped": round(float(np.mean(found.clipped)), 6),
        "times": [round(time, 6) for time in found.times],
    }
    with atomic_write(task.record, "w") as file:
        json.dump(record, file)
    return record


@dataclass
class Found:
    """What is found out about a video as it is read."""

    width: int = 0
    height: int = 0
    times: list[float] = field(default_factory=list)  # seconds, of each frame
    clipped: list[float] = field(default_factory=list)  # share beyond the bound, of each flow frame


class Streams:
    """Writes both streams of a video as its frames come, one by one."""

    def __init__(self, rgb: "TarWriter", flow: "TarWriter", options: ExtractOptions, found: Found) -> None:
        self._rgb, self._flow, self._options, self._found = rgb, flow, options, found
        self._compute: FlowMethod = flow_method(options.flow)
        self._recent: deque[Any] = deque(maxlen=options.dilation + 1)  # gray frames
        self._last: list[bytes] = []  # u and v of the last flow frame
        self._num_flow = 0

    def add(self, frame: Frame) -> None:
        """Write a frame, and the flow that ends in it."""
        import cv2

        found, options = self._found, self._options
        found.times.append(frame.seconds)
        found.height, found.width = frame.pixels.shape[:2]
        number = len(found.times)
        self._rgb.add(f"./frame_{number:010d}.jpg", encode_jpeg(frame.pixels[..., ::-1], options.quality))
        self._recent.append(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY))
        begin = number - options.dilation
        if begin >= 1 and (begin - 1) % options.stride == 0:
            flow = self._compute(self._recent[0], self._recent[-1])
            found.clipped.append(share_clipped(flow, options.bound))
            self._last = [encode_jpeg(plane, options.flow_quality) for plane in quantise(flow, options.bound)]
            self._write_flow()

    def finish(self) -> None:
        """Repeat the last flow frame where there is no frame to move to, as readers of EPIC's flow do.

        So there are exactly as many flow frames as the stride says, and none can take it for another.

        Raises:
            VideoError: the video is too short for any flow.
        """
        count, options = len(self._found.times), self._options
        if not self._last:
            raise VideoError(f"has {count} frames; flow over --dilation {options.dilation} needs one more than that")
        while self._num_flow < -(-count // options.stride):
            self._write_flow()

    def _write_flow(self) -> None:
        self._num_flow += 1
        for plane, jpeg in zip("uv", self._last, strict=True):
            self._flow.add(f"./{plane}/frame_{self._num_flow:010d}.jpg", jpeg)


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """A JPEG of pixels [H, W, 3] in BGR, or [H, W]."""
    import cv2

    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return bytes(data)


class TarWriter:
    """Adds files to an archive as EPIC's downloads are."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def add(self, name: str, data: bytes) -> None:
        """Append a file."""
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._archive.addfile(member, io.BytesIO(data))
        self._archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all; an hour of video has 10^5


@contextmanager
def tar_writer(path: Path) -> Iterator[TarWriter]:
    """An archive that takes its name once it is whole."""
    with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w") as archive:
        yield TarWriter(archive)
