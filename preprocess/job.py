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
from pipeline.format import (
    INDEX_NAME,
    STREAMS,
    VERSION,
    Index,
    Inputs,
    LeftOut,
    PackOptions,
    ShardError,
    Target,
    open_split,
    read_index,
)
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
LABEL = (Target(name="label"),)  # the targets of annotations that say no more
SOURCE_NAME = "extract.json"  # in the root of frames that were extracted: how
LAYOUT = ("frames_per_clip", "preset", "shard_mib", "codec", "raw_short_side")  # options that decide a split's bytes
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

    index: Index | None = None  # None: the split is not finished
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
    tasks = video_tasks(str(data.frames), clips, stored, Codec.of(data), tuple(STREAMS.values()))
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
    targets: tuple[Target, ...] = LABEL,
) -> Outcome:
    """Pack a split or a slice of it, or keep it when it is complete; safe to run again after any end of earlier runs.

    Raises:
        UserError: clips are bad, shards are missing that others should have written, or somebody else is at work there.
    """
    folder = data.shards / split
    about = describe(split, clips, data, targets)
    begin = time.monotonic()
    make_folder(folder)
    with locked(folder, shared=not assignment.joins):
        index = complete_index(folder, about, targets, data, display)
        if index is not None:
            if assignment.joins:
                remove_leftovers(folder, {shard.name for shard in index.shards})
            return Outcome(index, was_complete=True)
        plan = plan_split(split, clips, data, workers, display)
        _check_plan(split, plan, data, display)
        if assignment.joins:
            remove_scratch(folder)
        (folder / INDEX_NAME).unlink(missing_ok=True)
        tasks = shard_tasks(folder, plan, data, targets)
        outcome, parts = _write_slice(tasks, assignment.shards, plan, about, data, workers, display)
        if assignment.joins:
            outcome.index = _join(folder, tasks, parts, plan, about, targets)
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
        part = parts[task.number] = read_part(task.folder, task.number, task.digest, task.streams, len(task.targets))
        if part is None:
            raise UserError(
                f"{task.folder}: shard {task.number:05d} vanished while the split was packed; does another process "
                "write there, or do the workers of a cluster see another folder under this name?"
            )
        outcome.num_bytes += part[1]["bytes"]
        outcome.num_clips += part[1]["clips"]
    return outcome, parts


def _join(
    folder: Path,
    tasks: Sequence[ShardTask],
    parts: Sequence[Part | None],
    plan: SplitPlan,
    about: dict[str, Any],
    targets: Sequence[Target],
) -> Index:
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
    left_out = [LeftOut(**problem._asdict()) for problem in problems]
    inputs = Inputs(
        annotations=about["inputs"].annotations,
        frames=hashlib.sha256("".join(t.digest for t in tasks).encode()).hexdigest(),
        num_files=sum(clip.sizes.size for clip in plan.clips),
        num_bytes=sum(int(clip.sizes.sum()) for clip in plan.clips),
    )
    return finish(folder, whole, {**about, "inputs": inputs, "left_out": left_out}, targets)


def _kept_part(task: ShardTask) -> Part | None:
    """The part of a shard that an earlier run finished; one that lacks bad clips is no use where they are an error."""
    part = read_part(task.folder, task.number, task.digest, task.streams, len(task.targets))
    return part if part is None or task.skip or not part[1]["left_out"] else None


def shard_tasks(folder: Path, plan: SplitPlan, data: DataSection, targets: Sequence[Target]) -> list[ShardTask]:
    """Every shard of a split: what goes where depends on the frames' sizes alone."""
    names = tuple(target.name for target in targets)
    return [
        ShardTask(
            folder=folder,
            number=number,
            clips=tuple(clips),
            root=str(data.frames),
            decode=data.check == "decode",
            codec=Codec.of(data),
            skip=data.on_bad_clip == "skip",
            digest=shard_digest(clips, f"{data.check} {Codec.of(data)} {names}"),
            streams=tuple(STREAMS.values()),
            targets=names,
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


def describe(split: str, clips: Sequence[Clip], data: DataSection, targets: Sequence[Target]) -> dict[str, Any]:
    """The entries of the index that say what the split was packed from and how.

    Raises:
        UserError: what is said beside the frames of how they were made cannot be read.
    """
    layout = {key: getattr(data, key) for key in LAYOUT}
    options = PackOptions(**layout, check=data.check, on_bad_clip=data.on_bad_clip)
    inputs, source = Inputs(annotations=clips_digest(clips)), read_source(data.frames)
    about = [target.model_dump(mode="json", include={"name", "classes"}) for target in targets]
    named = json.dumps([VERSION, split, layout, inputs.annotations, about, source], sort_keys=True)
    fingerprint = hashlib.sha256(named.encode()).hexdigest()
    return {"split": split, "fingerprint": fingerprint, "inputs": inputs, "options": options, "source": source}


def read_source(frames: Path) -> dict[str, Any] | None:
    """How the frames below a root were made, where that is on record.

    Raises:
        UserError: the record is damaged.
    """
    path = frames / SOURCE_NAME
    try:
        source = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged ({error}); remove {frames} and extract its videos again") from None
    return source if isinstance(source, dict) else {"content": source}


def complete_index(
    folder: Path, about: dict[str, Any], targets: Sequence[Target], data: DataSection, display: Display
) -> Index | None:
    """The index of a complete split that was packed from the same; None when there is something to do.

    Raises:
        UserError: the split is complete, but other than it would be packed now. It is never removed here.
    """
    if not (folder / INDEX_NAME).exists():
        return None
    index = read_index(folder)
    differing = differences(index, about, targets, data)
    if differing:
        way_out = f"remove {folder} to pack it anew, or set data.shards to another folder"
        raise UserError(f"{folder}: complete, but packed otherwise: {', '.join(differing)}; {way_out}")
    if index.left_out and data.on_bad_clip == "error":
        raise UserError(
            f"{folder}: complete, but without {len(index.left_out)} bad clips (left_out in {INDEX_NAME}); "
            f"set data.on_bad_clip=skip to use it so, or mend the clips and remove {folder} to pack it anew"
        )
    try:
        open_split(folder)
    except ShardError as error:
        display.line(f"{about['split']}: not complete any more, packing it again ({error})")
        return None
    return index


def differences(index: Index, about: dict[str, Any], targets: Sequence[Target], data: DataSection) -> list[str]:
    """What a complete split was packed from or with other than it would be now, in words."""
    found = index.options
    differing = [
        f"data.{key} was {getattr(found, key)}, is {getattr(data, key)}"
        for key in LAYOUT
        if getattr(found, key) != getattr(data, key)
    ]
    if index.split != about["split"]:
        differing.append(f"it is the split {index.split!r}, copied from another folder")
    if index.inputs.annotations != about["inputs"].annotations:
        differing.append("its clips were others (data.annotations)")
    named = [(target.name, target.classes) for target in index.targets]
    if index.version > 1 and named != [(target.name, target.classes) for target in targets]:
        differing.append("its classes had other names (data.annotations)")
    if index.version > 1 and data.frames.is_dir():  # else there is nothing to hold them to
        differing += source_differences(index.source, about["source"])
    return differing


def source_differences(was: dict[str, Any] | None, now: dict[str, Any] | None) -> list[str]:
    """What is other about how frames were made; the versions of programs are no reason to make them again."""
    flat_was, flat_now = (flatten({**(source or {}), "packages": None}) for source in (was, now))
    keys = sorted(flat_was.keys() | flat_now.keys())
    return [
        f"its frames were made with {key} {flat_was.get(key)}, are with {flat_now.get(key)} ({SOURCE_NAME})"
        for key in keys
        if flat_was.get(key) != flat_now.get(key)
    ]


def flatten(source: dict[str, Any]) -> dict[str, Any]:
    """The entries of a source by their own names, those of `options` among them."""
    options = source.get("options")
    rest = {key: value for key, value in source.items() if key != "options"}
    return rest | options if isinstance(options, dict) else source


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
