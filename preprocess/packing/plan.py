"""Packing plan: the files that each clip stores and its shard, fixed before reading."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.epic import stride_of_id
from pipeline.format.index import VERSION
from pipeline.format.streams import STREAMS, channels_of
from pipeline.format.streams import Stream as StoredStream
from pipeline.format.tfrecord import MAX_PAYLOAD
from preprocess.annotations import Clip
from preprocess.packing.codec import Codec
from preprocess.packing.jpeg import JpegHeader, check_jpeg, exif_orientation
from preprocess.sources.frames import FrameRules, Video, choose_frames, open_video
from preprocess.sources.listing import JpegFiles, Source, SourceError

FILE_OVERHEAD = 32  # bytes of the record around a frame's file, about; shards need not know better


class Problem(NamedTuple):
    """Why a clip cannot be packed."""

    clip_id: str
    file: str
    why: str


@dataclass(frozen=True)
class PlannedClip:
    """One clip and where the JPEGs lie that it stores."""

    clip: Clip
    sources: tuple[Source, ...]  # [P], in the order of the planes
    numbers: NDArray[np.int64]  # [T, P] of the files
    offsets: NDArray[np.int64]  # [T, P] bytes into the .tar, 0 for files
    sizes: NDArray[np.int64]  # [T, P] bytes
    stored_bytes: int  # total stored bytes; an estimate when frame sizes differ
    num_clamped: int  # frames whose flow would stand after the last flow frame

    @property
    def num_bytes(self) -> int:
        """About what the record will take."""
        return self.stored_bytes + FILE_OVERHEAD * self.sizes.size


@dataclass(frozen=True)
class VideoTask:
    """The clips of one video, to be found on the disk."""

    root: str
    clips: tuple[Clip, ...]  # all of the same video
    num_frames: int | None  # stored frames per clip; None: all
    codec: Codec
    rules: FrameRules = field(default_factory=FrameRules)

    @property
    def streams(self) -> tuple[StoredStream, ...]:
        """What is stored, as the shards have it."""
        return tuple(stream for name, stream in STREAMS.items() if name in self.rules.streams)


@dataclass
class VideoPlan:
    """What was found of one video."""

    participant_id: str
    video_id: str
    num_clips: int
    stride: int | None
    stride_from: str
    num_rgb: int | None = None  # None: there are no (usable) frames
    num_flow: int | None = None
    kind: str = ""  # folder, .tar, or both
    num_clamped: int = 0  # stored frames that stand after the last flow frame
    clips: list[PlannedClip] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is not as usual, though it can be packed
    hints: dict[str, str] = field(default_factory=dict)  # by file: what is there instead of it, and what helps

    def add_problem(self, clip: Clip, error: SourceError, root: str) -> None:
        """Note why a clip cannot be packed."""
        file = relative(error.file, root)
        self.problems.append(Problem(clip.clip_id, file, error.why))
        self.hints[file] = error.hint


def video_tasks(
    root: str, clips: Sequence[Clip], num_frames: int | None, codec: Codec, rules: FrameRules
) -> list[VideoTask]:
    """Group the clips by video, in the order in which videos first occur."""
    groups: dict[tuple[str, str], list[Clip]] = {}
    for clip in clips:
        groups.setdefault((clip.participant_id, clip.video_id), []).append(clip)
    return [VideoTask(root, tuple(group), num_frames, codec, rules) for group in groups.values()]


def plan_video(task: VideoTask) -> VideoPlan:
    """Find a video's frames and those of each clip; what is missing is listed, not raised."""
    first = task.clips[0]
    of_id = stride_of_id(first.video_id)
    plan = VideoPlan(first.participant_id, first.video_id, len(task.clips), of_id, "id" if of_id else "unknown")
    try:
        video = open_video(task.root, first.participant_id, first.video_id, task.rules)
    except SourceError as error:
        for clip in task.clips:
            plan.add_problem(clip, error, task.root)
        return plan
    plan.stride, plan.stride_from = video.stride, video.stride_from
    plan.num_rgb, plan.num_flow = video.last_rgb, video.last_flow
    plan.kind = " and ".join(sorted({".tar" if stream.source.is_tar else "folder" for stream in video.streams}))
    with JpegFiles() as files:
        plan.notes = [f"{first.video_id}: {note}" for note in (video.shortage(), _turned(video, files)) if note]
        for clip in task.clips:
            try:
                planned = _plan_clip(video, clip, task, files)
            except SourceError as error:
                plan.add_problem(clip, error, task.root)
            else:
                plan.clips.append(planned)
                plan.num_clamped += planned.num_clamped
    return plan


def _turned(video: Video, files: JpegFiles) -> str:
    """What to say where a viewer would show the frames otherwise than they are stored."""
    stream = video.streams[0]
    try:
        (offset,), (size,) = stream.locate(stream.numbers[:1])
        turn = exif_orientation(files.read(stream.source, int(stream.numbers[0]), int(offset), int(size)))
    except (ValueError, SourceError):  # said where a clip needs the frame
        return ""
    what = f"its frames say by EXIF that a viewer turns them (orientation {turn}); they are used as they are stored"
    return what if turn > 1 else ""


def relative(file: str, root: str) -> str:
    """A file's name below the root of the frames, so that it is the same wherever that root is."""
    return file[len(root) :].lstrip("/") if file.startswith(root) else file


def _plan_clip(video: Video, clip: Clip, task: VideoTask, files: JpegFiles) -> PlannedClip:
    video.check_span(clip.start_frame, clip.stop_frame)
    rgb = choose_frames(clip.start_frame, clip.stop_frame, task.num_frames)
    wanted = video.numbers_of(rgb)
    numbers = np.stack(list(wanted.values()), axis=1)  # [T, P]
    located = [video.planes[plane].locate(frames) for plane, frames in wanted.items()]
    offsets, sizes = (np.stack(columns, axis=1) for columns in zip(*located, strict=True))  # each [T, P]
    sources = tuple(stream.source for stream in video.streams)
    stored_bytes = int(sizes.sum())
    if task.codec.name == "raw":
        first = _read_size(sources[0], int(numbers[0, 0]), int(offsets[0, 0]), int(sizes[0, 0]), files)
        height, width, _ = task.codec.stored_size(first)
        stored_bytes = len(rgb) * height * width * sum(channels_of(task.streams))
    if stored_bytes + 2 * FILE_OVERHEAD * sizes.size > MAX_PAYLOAD:
        why = f"{stored_bytes} bytes in {len(rgb)} frames are more than a record can hold; lower data.frames_per_clip"
        raise SourceError(sources[0].path, why)
    return PlannedClip(clip, sources, numbers, offsets, sizes, stored_bytes, video.num_clamped(rgb))


def _read_size(source: Source, number: int, offset: int, size: int, files: JpegFiles) -> JpegHeader:
    """Height and width of one frame, from its file's header."""
    try:
        return check_jpeg(files.read(source, number, offset, size), decode=False)
    except ValueError as error:
        raise SourceError(source.name(number), str(error)) from None


def cut_shards(clips: Iterable[PlannedClip], shard_bytes: int) -> list[list[PlannedClip]]:
    """Cut clips in order into shards of about `shard_bytes`; a larger clip is a shard."""
    shards: list[list[PlannedClip]] = []
    room = 0
    for clip in clips:
        if not shards or clip.num_bytes > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(clip)
        room -= clip.num_bytes
    return shards


def tar_bytes(task: VideoTask) -> int:
    """Bytes of a video's .tar files, whose headers have to be read."""
    return sum(os.stat(path).st_size for path in _paths(task.root, task.clips[0], task.streams, ".tar"))


def are_unchanged(root: str, clips: Iterable[Clip], streams: Sequence[StoredStream], since: float) -> bool:
    """Whether all frames lie in .tar files that are older than `since`."""
    videos = {(clip.participant_id, clip.video_id): clip for clip in clips}
    tars = [_paths(root, clip, streams, ".tar") for clip in videos.values()]
    folders = any(_paths(root, clip, streams, "") for clip in videos.values())
    whole = all(len(found) == len(streams) for found in tars)
    return not folders and whole and all(os.stat(path).st_ctime < since for found in tars for path in found)


def _paths(root: str, clip: Clip, streams: Iterable[StoredStream], suffix: str) -> list[str]:
    paths = (f"{root}/{clip.participant_id}/{s.name}_frames/{clip.video_id}{suffix}" for s in streams)
    return [path for path in paths if os.path.exists(path)]


def shard_digest(clips: Sequence[PlannedClip], options: str) -> str:
    """Digest of all that decides a shard's bytes but the frames themselves."""
    parts = (part for planned in clips for part in (_annotated(planned.clip), *_files(planned)))
    return _digest(chain([f"{VERSION} {options}".encode()], parts))


def frames_digest(clips: Iterable[PlannedClip]) -> str:
    """Digest of a split's frames by numbers and sizes, wherever and however they lie."""
    return _digest(part for planned in clips for part in (planned.clip.clip_id.encode(), *_files(planned)))


def clips_digest(clips: Iterable[Clip]) -> str:
    """Digest of a split's annotations, whatever files they came from; as in version 1."""
    return _digest(map(_annotated, clips))


def _annotated(clip: Clip) -> bytes:
    return repr((*clip[:5], *clip.targets)).encode()


def _files(planned: PlannedClip) -> Iterator[bytes]:
    return (array.astype("<i8").tobytes() for array in (planned.numbers, planned.sizes))


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
