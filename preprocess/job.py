"""Packs one split: plan, write what is not there yet, finish; what is complete is kept."""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.display import Display
from configs.errors import UserError
from configs.files import make_folder, remove_scratch
from configs.schema import DataSection
from pipeline.format import INDEX_NAME, VERSION, ShardError, open_split, read_index
from preprocess.annotations import Clip
from preprocess.parts import Part, finish, read_part, remove_leftovers
from preprocess.plan import (
    PlannedClip,
    Problem,
    VideoPlan,
    clips_digest,
    cut_shards,
    plan_video,
    shard_digest,
    video_tasks,
)
from preprocess.progress import WritingProgress
from preprocess.workers import Workers
from preprocess.writer import ShardTask, part_path, shard_path, write_shard

MIB = 2**20
SMALL_JOB_BYTES = 8 * MIB  # packed in less time than processes need to start
SMALL_JOB_VIDEOS = 16
MAX_IDS = 20  # clips named on one line of a message


@dataclass
class SplitPlan:
    """A split as its annotations and the disk have it."""

    videos: list[VideoPlan]
    clips: list[PlannedClip]  # in the order of the annotations
    problems: list[Problem]
    order: dict[str, int]  # position of each clip in the annotations

    def in_order(self, problems: Iterable[Problem]) -> list[Problem]:
        """Problems as the annotations have their clips, whichever process found them."""
        return sorted(problems, key=lambda problem: self.order[problem.clip_id])


@dataclass
class Outcome:
    """What packing a split came to."""

    index: dict[str, Any]
    seconds: float = 0.0
    num_bytes: int = 0  # written now
    num_clips: int = 0  # written now
    num_kept: int = 0  # shards that were there
    num_clamped: int = 0
    was_complete: bool = False
    problems: list[Problem] = field(default_factory=list)


def plan_split(split: str, clips: Sequence[Clip], data: DataSection, workers: Workers, display: Display) -> SplitPlan:
    """Find every frame of a split; what is missing is listed in the plan."""
    stored = None if data.frames_per_clip == "all" else data.frames_per_clip
    tasks = video_tasks(str(data.frames), clips, stored)
    videos: list[VideoPlan | None] = [None] * len(tasks)
    display.begin(f"{split}: looking at the frames", len(tasks), unit="videos")
    for done in workers.run(plan_video, tasks, len(tasks) < SMALL_JOB_VIDEOS):
        if done is not None:
            videos[done[0]] = done[1]
            display.advance()
        display.update()
    found = [video for video in videos if video is not None]
    order = {clip.clip_id: position for position, clip in enumerate(clips)}
    planned = sorted((clip for video in found for clip in video.clips), key=lambda clip: order[clip.clip.clip_id])
    plan = SplitPlan(found, planned, [problem for video in found for problem in video.problems], order)
    plan.problems = plan.in_order(plan.problems)
    return plan


def pack_split(split: str, clips: Sequence[Clip], data: DataSection, workers: Workers, display: Display) -> Outcome:
    """Pack a split, or keep it when it is complete; safe to run again after any end of an earlier run."""
    folder = data.shards / split
    about = describe(split, clips, data)
    begin = time.monotonic()
    make_folder(folder)
    with locked(folder):
        index = complete_index(folder, about, data, display)
        if index is not None:
            remove_leftovers(folder, {shard["name"] for shard in index["shards"]})
            return Outcome(index, was_complete=True)
        plan = plan_split(split, clips, data, workers, display)
        _check_plan(split, plan, data, display)
        outcome = _pack(folder, plan, about, data, workers, display)
    outcome.seconds = time.monotonic() - begin
    return outcome


def _pack(
    folder: Path, plan: SplitPlan, about: dict[str, Any], data: DataSection, workers: Workers, display: Display
) -> Outcome:
    tasks = shard_tasks(folder, plan, data)
    remove_scratch(folder)
    (folder / INDEX_NAME).unlink(missing_ok=True)
    parts = [_kept_part(task) for task in tasks]
    todo = [task for task, part in zip(tasks, parts, strict=True) if part is None]
    outcome = Outcome({}, num_kept=len(tasks) - len(todo), num_clamped=sum(v.num_clamped for v in plan.videos))
    outcome.problems = plan.in_order([*plan.problems, *_write_shards(about["split"], todo, workers, display)])
    if outcome.problems and data.on_bad_clip == "error":
        raise UserError(bad_clips_message(about["split"], outcome.problems, len(plan.clips) + len(plan.problems)))
    for task in todo:
        parts[task.number] = read_part(folder, task.number, task.digest)
    whole = [part for part in parts if part is not None]
    if len(whole) < len(tasks):
        raise UserError(f"{folder}: shards vanished while the split was packed; does another process write there?")
    if not any(summary["clips"] for _, summary in whole):
        raise UserError(bad_clips_message(about["split"], outcome.problems, len(plan.clips) + len(plan.problems)))
    fresh = [summary for _, summary in (whole[task.number] for task in todo)]
    outcome.num_bytes = sum(summary["bytes"] for summary in fresh)
    outcome.num_clips = sum(summary["clips"] for summary in fresh)
    skipped = [Problem(**problem) for _, summary in whole for problem in summary["left_out"]]
    left_out = [problem._asdict() for problem in plan.in_order([*plan.problems, *skipped])]
    inputs = {**about["inputs"], "frames": hashlib.sha256("".join(t.digest for t in tasks).encode()).hexdigest()}
    outcome.index = finish(folder, whole, {**about, "inputs": inputs, "left_out": left_out})
    return outcome


def _kept_part(task: ShardTask) -> Part | None:
    """The part of a shard that an earlier run finished; one that lacks bad clips is no use where they are an error."""
    part = read_part(task.folder, task.number, task.digest)
    return part if part is None or task.skip or not part[1]["left_out"] else None


def shard_tasks(folder: Path, plan: SplitPlan, data: DataSection) -> list[ShardTask]:
    """Every shard of a split: what goes where depends on the frames' sizes alone."""
    return [
        ShardTask(
            folder=folder,
            number=number,
            clips=tuple(clips),
            root=str(data.frames),
            decode=data.check == "decode",
            skip=data.on_bad_clip == "skip",
            digest=shard_digest(clips, data.check),
        )
        for number, clips in enumerate(cut_shards(plan.clips, data.shard_mib * MIB))
    ]


def _write_shards(split: str, tasks: Sequence[ShardTask], workers: Workers, display: Display) -> list[Problem]:
    """Write shards; return what is wrong with clips, in the order of the shards."""
    sizes = [sum(clip.num_bytes for clip in task.clips) for task in tasks]
    problems: dict[int, tuple[Problem, ...]] = {}
    num_done = 0
    for task in tasks:  # a part must never stand beside a shard of another cut
        part_path(shard_path(task.folder, task.number)).unlink(missing_ok=True)
    progress = WritingProgress(display, split, sum(sizes), sum(len(task.clips) for task in tasks))
    for done in workers.run(write_shard, tasks, sum(sizes) < SMALL_JOB_BYTES):
        if done is not None:
            problems[done[0]] = done[1].problems
            num_done += sizes[done[0]]
        progress.update(num_done + _scratch_bytes(tasks[0].folder))
    return [problem for position in sorted(problems) for problem in problems[position]]


def _scratch_bytes(folder: Path) -> int:
    """What processes have written of shards that are not finished; seen from outside, so they need not tell."""
    total = 0
    for scratch in folder.glob(".*.tfrecord.*.tmp"):
        try:
            total += scratch.stat().st_size
        except FileNotFoundError:  # finished in between
            continue
    return total


def describe(split: str, clips: Sequence[Clip], data: DataSection) -> dict[str, Any]:
    """The entries of the index that say what the split was packed from and how."""
    layout = {"frames_per_clip": data.frames_per_clip, "preset": data.preset, "shard_mib": data.shard_mib}
    inputs = {"annotations": clips_digest(clips)}
    named = json.dumps([VERSION, split, layout, inputs], sort_keys=True)
    checks = {"check": data.check, "on_bad_clip": data.on_bad_clip}
    return {
        "split": split,
        "fingerprint": hashlib.sha256(named.encode()).hexdigest(),
        "inputs": inputs,
        "options": {**layout, **checks},
        "left_out": [],
    }


def complete_index(folder: Path, about: dict[str, Any], data: DataSection, display: Display) -> dict[str, Any] | None:
    """The index of a complete split that was packed from the same; None when there is something to do.

    Raises:
        UserError: the split is complete, but other than it would be packed now. It is never removed here.
    """
    if not (folder / INDEX_NAME).exists():
        return None
    index = read_index(folder)
    if index["fingerprint"] != about["fingerprint"]:
        way_out = f"remove {folder} to pack it anew, or set data.shards to another folder"
        raise UserError(f"{folder}: complete, but packed otherwise: {_difference(index, about)}; {way_out}")
    if index["left_out"] and data.on_bad_clip == "error":
        raise UserError(
            f"{folder}: complete, but without {len(index['left_out'])} bad clips (left_out in {INDEX_NAME}); "
            f"set data.on_bad_clip=skip to use it so, or mend the clips and remove {folder} to pack it anew"
        )
    try:
        open_split(folder)
    except ShardError as error:
        display.line(f"{about['split']}: not complete any more, packing it again ({error})")
        return None
    return index


def _difference(index: dict[str, Any], about: dict[str, Any]) -> str:
    found, wanted = index["options"], about["options"]
    keys = ("frames_per_clip", "preset", "shard_mib")
    differing = [f"data.{key} was {found.get(key)}, is {wanted[key]}" for key in keys if found.get(key) != wanted[key]]
    if index["inputs"].get("annotations") != about["inputs"]["annotations"]:
        differing.append("its clips were others (data.annotations)")
    return ", ".join(differing) or "it belongs to another split"


def _check_plan(split: str, plan: SplitPlan, data: DataSection, display: Display) -> None:
    """Say at once which frames are missing; go on to find what else is wrong, unless there is nothing to go on with."""
    if not plan.problems:
        return
    message = bad_clips_message(split, plan.problems, len(plan.clips) + len(plan.problems))
    if not plan.clips:
        raise UserError(message)
    if data.on_bad_clip == "error":
        head = message.split("\n", 1)[0].rstrip(":")
        display.line(f"{head}; packing goes on to find what else is wrong, Ctrl-C stops it")


def bad_clips_message(split: str, problems: Sequence[Problem], num_clips: int) -> str:
    """All that is wrong, a line a file, with the clips that need it."""
    files: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        files.setdefault((problem.file, problem.why), []).append(problem.clip_id)
    lines = [f"{_named(clips)}: {file} {why}" for (file, why), clips in files.items()]
    num_bad = len({problem.clip_id for problem in problems})
    head = f"{split}: {num_bad} of {num_clips} clips cannot be packed:"
    end = "mend the files and run the same command again, or set data.on_bad_clip=skip to leave these clips out"
    return "\n  ".join([head, *lines, end])


def _named(clips: Sequence[str]) -> str:
    more = f" and {len(clips) - MAX_IDS} more" if len(clips) > MAX_IDS else ""
    return f"clip{'s' if len(clips) > 1 else ''} {', '.join(clips[:MAX_IDS])}{more}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second packer out of a split; the lock goes with the process that holds it.

    Raises:
        UserError: another process holds it.
    """
    path = folder / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())):
            raise BlockingIOError  # the holder ended and took the file with it, between our two calls
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"{folder}: another process is writing here; wait for it, or end it first") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
