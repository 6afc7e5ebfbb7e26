"""Which files each clip stores and which shard each clip goes to: fixed before a byte is read."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.epic import flow_index, stride_of_id
from configs.errors import listed
from pipeline.format import MAX_PAYLOAD, PLANES, STREAMS, VERSION, channels_of, planes_of
from pipeline.format import Stream as StoredStream
from preprocess.annotations import Clip
from preprocess.codec import Codec
from preprocess.frames import JpegFiles, Source, SourceError, Stream, Video, choose_frames, open_video
from preprocess.jpeg import Picture, check_jpeg

FILE_OVERHEAD = 32  # bytes of the record around a picture's file, about; shards need not know better
_STREAM_NAMES = ("RGB", "flow u", "flow v")


class Problem(NamedTuple):
    """Why a clip cannot be packed."""

    clip_id: str
    file: str
    why: str


@dataclass(frozen=True)
class PlannedClip:
    """One clip and the places of the JPEGs it stores."""

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
    num_frames: int | None  # stored frames a clip; None: all
    codec: Codec
    streams: tuple[StoredStream, ...] = tuple(STREAMS.values())  # that are stored


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
    num_clamped: int = 0  # stored frames that stand behind the last flow frame
    clips: list[PlannedClip] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def video_tasks(
    root: str, clips: Sequence[Clip], num_frames: int | None, codec: Codec, streams: tuple[StoredStream, ...]
) -> list[VideoTask]:
    """Group the clips by video, in the order in which videos first occur."""
    groups: dict[tuple[str, str], list[Clip]] = {}
    for clip in clips:
        groups.setdefault((clip.participant_id, clip.video_id), []).append(clip)
    return [VideoTask(root, tuple(group), num_frames, codec, streams) for group in groups.values()]


def plan_video(task: VideoTask) -> VideoPlan:
    """Find a video's frames and those of each clip; what is missing is listed, not raised."""
    first = task.clips[0]
    of_id = stride_of_id(first.video_id)
    plan = VideoPlan(first.participant_id, first.video_id, len(task.clips), of_id, "id" if of_id else "unknown")
    try:
        video = open_video(task.root, first.participant_id, first.video_id)
    except SourceError as error:
        plan.problems = [_problem(clip, error, task.root) for clip in task.clips]
        return plan
    plan.stride, plan.stride_from = video.stride, video.stride_from
    plan.num_rgb, plan.num_flow = video.rgb.last, video.last_flow
    plan.kind = " and ".join(sorted({".tar" if stream.source.is_tar else "folder" for stream in video.streams}))
    with JpegFiles() as files:
        for clip in task.clips:
            try:
                planned = _plan_clip(video, clip, task, files)
            except SourceError as error:
                plan.problems.append(_problem(clip, error, task.root))
            else:
                plan.clips.append(planned)
                plan.num_clamped += planned.num_clamped
    return plan


def relative(file: str, root: str) -> str:
    """A file's name below the root of the frames, so that it is the same wherever that root is."""
    return file[len(root) :].lstrip("/") if file.startswith(root) else file


def _problem(clip: Clip, error: SourceError, root: str) -> Problem:
    return Problem(clip.clip_id, relative(error.file, root), error.why)


def _plan_clip(video: Video, clip: Clip, task: VideoTask, files: JpegFiles) -> PlannedClip:
    last = video.rgb.last
    if clip.stop_frame > last:
        why = f"frames {clip.start_frame}..{clip.stop_frame} are wanted, the last RGB frame is {last}"
        raise SourceError(video.rgb.source.path, why)
    ends = np.array([clip.start_frame, clip.stop_frame])
    flow_ends = video.flow_of(ends)
    if flow_index(clip.start_frame, video.stride) > video.last_flow:
        why = f"the whole clip stands behind the last flow frame, {video.last_flow} (stride {video.stride})"
        raise SourceError(video.streams[1].source.path, why)
    for stream, name, wanted in zip(video.streams, _STREAM_NAMES, (ends, flow_ends, flow_ends), strict=True):
        _refuse_gaps(stream, name, int(wanted[0]), int(wanted[1]))
    rgb = choose_frames(clip.start_frame, clip.stop_frame, task.num_frames)
    flow = video.flow_of(rgb)
    of_plane = dict(zip(PLANES, zip(video.streams, (rgb, flow, flow), strict=True), strict=True))
    stored = [of_plane[plane] for plane in planes_of(task.streams)]
    places = [stream.locate(wanted) for stream, wanted in stored]
    offsets, sizes = (np.stack(columns, axis=1) for columns in zip(*places, strict=True))  # each [T, P]
    numbers = np.stack([wanted for _, wanted in stored], axis=1)
    sources = tuple(stream.source for stream, _ in stored)
    stored_bytes = int(sizes.sum())
    if task.codec.decodes:
        first = _read_size(sources[0], int(numbers[0, 0]), int(offsets[0, 0]), int(sizes[0, 0]), files)
        height, width, _ = task.codec.stored_size(first)
        stored_bytes = len(rgb) * height * width * sum(channels_of(task.streams))
    if stored_bytes + 2 * FILE_OVERHEAD * sizes.size > MAX_PAYLOAD:
        why = f"{stored_bytes} bytes in {len(rgb)} frames are more than a record can hold; lower data.frames_per_clip"
        raise SourceError(video.rgb.source.path, why)
    num_clamped = int((flow_index(rgb, video.stride) > video.last_flow).sum())
    return PlannedClip(clip, sources, numbers, offsets, sizes, stored_bytes, num_clamped)


def _read_size(source: Source, number: int, offset: int, size: int, files: JpegFiles) -> Picture:
    """Height and width of one frame, from its file's header."""
    try:
        return check_jpeg(files.read(source, number, offset, size), decode=False)
    except ValueError as error:
        raise SourceError(source.name(number), str(error)) from None


def _refuse_gaps(stream: Stream, name: str, first: int, last: int) -> None:
    missing = stream.num_missing(first, last)
    if missing:
        which = stream.first_missing(first, last)
        why = f"is missing ({missing} of the clip's {name} frames {first}..{last} are)"
        raise SourceError(stream.source.name(which), why)


def bad_clips_message(split: str, problems: Sequence[Problem], num_clips: int) -> str:
    """All that is wrong, a line a file, with the clips that need it."""
    files: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        files.setdefault((problem.file, problem.why), []).append(problem.clip_id)
    lines = [f"clip{'s' * (len(ids) > 1)} {listed(ids)}: {file} {why}" for (file, why), ids in files.items()]
    num_bad = len({problem.clip_id for problem in problems})
    head = f"{split}: {num_bad} of {num_clips} clips cannot be packed:"
    end = "mend the files and run the same command again, or set data.on_bad_clip=skip to leave these clips out"
    return "\n  ".join([head, *lines, end])


def cut_shards(clips: Iterable[PlannedClip], shard_bytes: int) -> list[list[PlannedClip]]:
    """Cut clips into shards of at most about `shard_bytes`, in order; a clip larger than that has one of its own."""
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
    """Whether all frames lie in .tar files that nobody has touched since, so that nothing need be looked at."""
    videos = {(clip.participant_id, clip.video_id): clip for clip in clips}
    tars = [_paths(root, clip, streams, ".tar") for clip in videos.values()]
    folders = any(_paths(root, clip, streams, "") for clip in videos.values())
    whole = all(len(found) == len(streams) for found in tars)
    return not folders and whole and all(os.stat(path).st_ctime < since for found in tars for path in found)


def _paths(root: str, clip: Clip, streams: Iterable[StoredStream], suffix: str) -> list[str]:
    paths = (f"{root}/{clip.participant_id}/{s.name}_frames/{clip.video_id}{suffix}" for s in streams)
    return [path for path in paths if os.path.exists(path)]


def shard_digest(clips: Sequence[PlannedClip], options: str) -> str:
    """Names all that decides a shard's bytes but the pictures themselves; equal digests need no second packing."""
    digest = hashlib.sha256(f"{VERSION} {options}".encode())
    for planned in clips:
        digest.update(repr((*planned.clip[:5], *planned.clip.targets)).encode())
        for array in (planned.numbers, planned.sizes):
            digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()


def frames_digest(clips: Iterable[PlannedClip]) -> str:
    """Names the frames of a split by their numbers and sizes, wherever they lie and however they are packed."""
    digest = hashlib.sha256()
    for planned in clips:
        digest.update(planned.clip.clip_id.encode())
        for array in (planned.numbers, planned.sizes):
            digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()


def clips_digest(clips: Iterable[Clip]) -> str:
    """Names the annotations of a split, whatever files and columns they came from; with one target as version 1 did."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(repr((*clip[:5], *clip.targets)).encode())
    return digest.hexdigest()
