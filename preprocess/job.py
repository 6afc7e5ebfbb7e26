"""Packs one split: plan, write what is not there yet, finish; what is complete is kept."""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.display import Display
from configs.errors import UserError, listed
from configs.files import make_folder, remove_scratch
from configs.lock import locked
from configs.schema import DataSection
from pipeline.format import INDEX_NAME, VERSION, ShardError, open_split, read_index
from preprocess.annotations import Clip
from preprocess.assignment import WHOLE, Assignment
from preprocess.codec import Codec
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
OPTION_DEFAULTS = {"codec": "jpeg", "raw_short_side": None}  # of sets whose index does not name them
SMALL_JOB_BYTES = 8 * MIB  # packed in less time than processes need to start
SMALL_JOB_VIDEOS = 16


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
    """What packing a split, or a slice of it, came to."""

    index: dict[str, Any] | None = None  # None: the split is not finished
    seconds: float = 0.0
    num_shards: int = 0  # of this slice
    num_bytes: int = 0  # written now
    num_clips: int = 0  # written now
    num_kept: int = 0  # shards that were there
    num_clamped: int = 0
    was_complete: bool = False
    problems: list[Problem] = field(default_factory=list)


def plan_split(split: str, clips: Sequence[Clip], data: DataSection, workers: Workers, display: Display) -> SplitPlan:
    """Find every frame of a split; what is missing is listed in the plan."""
    stored = None if data.frames_per_clip == "all" else data.frames_per_clip
    tasks = video_tasks(str(data.frames), clips, stored, Codec.of(data))
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


def pack_split(
    split: str,
    clips: Sequence[Clip],
    data: DataSection,
    workers: Workers,
    display: Display,
    assignment: Assignment = WHOLE,
) -> Outcome:
    """Pack a split or a slice of it, or keep it when it is complete; safe to run again after any end of earlier runs.

    Raises:
        UserError: clips are bad, shards are missing that others should have written, or somebody else is at work there.
    """
    folder = data.shards / split
    about = describe(split, clips, data)
    begin = time.monotonic()
    make_folder(folder)
    with locked(folder, shared=not assignment.joins):
        index = complete_index(folder, about, data, display)
        if index is not None:
            if assignment.joins:
                remove_leftovers(folder, {shard["name"] for shard in index["shards"]})
            return Outcome(index, was_complete=True)
        plan = plan_split(split, clips, data, workers, display)
        _check_plan(split, plan, data, display)
        if assignment.joins:
            remove_scratch(folder)
        (folder / INDEX_NAME).unlink(missing_ok=True)
        tasks = shard_tasks(folder, plan, data)
        outcome, parts = _write_slice(tasks, assignment.shards, plan, about, data, workers, display)
        if assignment.joins:
            outcome.index = _join(folder, tasks, parts, plan, about)
    outcome.seconds = time.monotonic() - begin
    return outcome


def _write_slice(
    tasks: Sequence[ShardTask],
    shards: slice,
    plan: SplitPlan,
    about: dict[str, Any],
    data: DataSection,
    workers: Workers,
    display: Display,
) -> tuple[Outcome, list[Part | None]]:
    """Write what is missing of a slice of the shards; return that, and the parts of all shards as far as they exist."""
    split, num_clips = about["split"], len(plan.clips) + len(plan.problems)
    parts = [_kept_part(task) for task in tasks]
    todo = [task for task in tasks[shards] if parts[task.number] is None]
    num_mine = len(tasks[shards])
    outcome = Outcome(num_shards=num_mine, num_kept=num_mine - len(todo))
    outcome.num_clamped = sum(video.num_clamped for video in plan.videos)
    outcome.problems = plan.in_order([*plan.problems, *_write_shards(split, todo, workers, display)])
    if outcome.problems and data.on_bad_clip == "error":
        raise UserError(bad_clips_message(split, outcome.problems, num_clips))
    for task in todo:
        part = parts[task.number] = read_part(task.folder, task.number, task.digest)
        if part is None:
            raise UserError(
                f"{task.folder}: shard {task.number:05d} vanished while the split was packed; does another process "
                "write there, or do the workers of a cluster see another folder under this name?"
            )
        outcome.num_bytes += part[1]["bytes"]
        outcome.num_clips += part[1]["clips"]
    return outcome, parts


def _join(
    folder: Path, tasks: Sequence[ShardTask], parts: Sequence[Part | None], plan: SplitPlan, about: dict[str, Any]
) -> dict[str, Any]:
    """Make the shards a finished split; return its index.

    Raises:
        UserError: some are missing, or they hold no clip.
    """
    whole = [part for part in parts if part is not None]
    if len(whole) < len(tasks):
        missing = [f"{number:05d}" for number, part in enumerate(parts) if part is None]
        raise UserError(
            f"{folder}: {len(missing)} of {len(tasks)} shards are missing: {listed(missing)}; run their slices "
            "(again), or the command without --slice and --finish, which writes them itself"
        )
    skipped = [Problem(**problem) for _, summary in whole for problem in summary["left_out"]]
    problems = plan.in_order([*plan.problems, *skipped])
    if not any(summary["clips"] for _, summary in whole):
        raise UserError(bad_clips_message(about["split"], problems, len(plan.clips) + len(plan.problems)))
    left_out = [problem._asdict() for problem in problems]
    inputs = {**about["inputs"], "frames": hashlib.sha256("".join(t.digest for t in tasks).encode()).hexdigest()}
    return finish(folder, whole, {**about, "inputs": inputs, "left_out": left_out})


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
            codec=Codec.of(data),
            skip=data.on_bad_clip == "skip",
            digest=shard_digest(clips, f"{data.check}{_codec_options(data) or ''}"),
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
        progress.update(num_done + _scratch_bytes(tasks))
    return [problem for position in sorted(problems) for problem in problems[position]]


def _scratch_bytes(tasks: Sequence[ShardTask]) -> int:
    """What processes have written of shards that are not finished; seen from outside, so they need not tell."""
    names = {shard_path(task.folder, task.number).name for task in tasks}
    total = 0
    for scratch in tasks[0].folder.glob(".*.tfrecord.*.tmp"):
        try:
            total += scratch.stat().st_size if scratch.name[1:].split(".tfrecord")[0] + ".tfrecord" in names else 0
        except FileNotFoundError:  # finished in between
            continue
    return total


def describe(split: str, clips: Sequence[Clip], data: DataSection) -> dict[str, Any]:
    """The entries of the index that say what the split was packed from and how."""
    layout = {"frames_per_clip": data.frames_per_clip, "preset": data.preset, "shard_mib": data.shard_mib}
    layout |= _codec_options(data)
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


def _codec_options(data: DataSection) -> dict[str, Any]:
    """What the codec adds to the options; nothing for JPEGs, so that sets of before there was another are kept."""
    return {} if data.codec == "jpeg" else {"codec": data.codec, "raw_short_side": data.raw_short_side}


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
    found, wanted = (OPTION_DEFAULTS | options for options in (index["options"], about["options"]))
    keys = ("frames_per_clip", "preset", "shard_mib", *OPTION_DEFAULTS)
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
    return f"clip{'s' if len(clips) > 1 else ''} {listed(clips)}"
