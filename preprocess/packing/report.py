"""Reports: what would be packed, how far packing is, what was packed."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from rich.table import Table

from common.display import PLAIN_OFTEN, Display
from configs.schema import DataSection
from pipeline.format.index import Index
from pipeline.format.streams import PLANES
from preprocess.annotations import Clip
from preprocess.packing.codec import count_frames
from preprocess.packing.shard_writer import ShardTask, shard_path
from preprocess.packing.split_plan import SplitPlan

Clips = Mapping[str, Sequence[Clip]]  # by split
Plans = Mapping[str, SplitPlan]  # by split
Classes = Mapping[str, Sequence[str] | None]  # names of each target's classes
MB = 1e6


@dataclass
class Outcome:
    """What packing a split came to."""

    index: Index
    seconds: float = 0.0
    num_bytes: int = 0  # written now
    num_clips: int = 0  # written now
    num_kept: int = 0  # shards that were there
    num_clamped: int = 0
    was_complete: bool = False


def show_plan(clips: Clips, classes: Classes, plans: Plans, data: DataSection, display: Display) -> None:
    """Print all that --plan finds."""
    if not data.frames.is_dir():
        display.print(f"data.frames: {data.frames} is not there; what follows is known from the annotations alone")
    for table in (_splits(clips, plans, data), *_classes(clips, classes), _participants(clips), _videos(plans)):
        display.table(table)
    for split, plan in plans.items():
        if plan.problems and data.frames.is_dir():
            display.print(plan.explain(split, plan.problems))


def _table(title: str, columns: Sequence[str], num_text: int = 1) -> Table:
    """A table whose first `num_text` columns are text and the others numbers."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < num_text else "right", no_wrap=True)
    return table


def _splits(clips: Clips, plans: Plans, data: DataSection) -> Table:
    columns = ("split", "clips", "videos", "without frames", "JPEGs to read", "bytes to write")
    table = _table("Splits", columns)
    for split, plan in plans.items():
        missing = sum(video.num_rgb is None for video in plan.videos)
        spans = sum(clip.stop_frame - clip.start_frame + 1 for clip in clips[split])
        stored = data.frames_per_clip
        jpegs = len(PLANES) * (spans if stored == "all" else stored * len(clips[split]))
        counts = f"{len(clips[split]):,}", f"{len(plan.videos):,}", f"{missing:,}", f"{jpegs:,}"
        table.add_row(split, *counts, _bytes_to_write(jpegs, plan))
    return table


def _bytes_to_write(jpegs: int, plan: SplitPlan) -> str:
    """The sizes of all files; where some are missing, as if those were like the others."""
    num_found = sum(clip.sizes.size for clip in plan.clips)
    num_bytes = sum(clip.num_bytes for clip in plan.clips)
    if num_found == 0:
        return "unknown"
    return _size(num_bytes) if num_found == jpegs else f"about {_size(num_bytes * jpegs / num_found)}"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _classes(clips: Clips, classes: Classes) -> Iterator[Table]:
    for position, (target, names) in enumerate(classes.items()):
        by_split = [Counter(clip.targets[position] for clip in found) for found in clips.values()]
        seen = sorted(set().union(*by_split))
        table = _table(
            f"Classes of {target}: {sum(label >= 0 for label in seen)}{f' of {len(names)}' if names else ''}",
            (target, "name", *clips),
            2,
        )
        for label in seen:
            name = names[label] if names and 0 <= label < len(names) else "unknown" if label < 0 else ""
            table.add_row(str(label), name, *(f"{counts[label]:,}" for counts in by_split))
        yield table


def _participants(clips: Clips) -> Table:
    table = _table("Participants", ("participant", *clips))
    by_split = [Counter(clip.participant_id for clip in found) for found in clips.values()]
    for participant in sorted(set().union(*by_split)):
        table.add_row(participant, *(f"{counts[participant]:,}" for counts in by_split))
    return table


def _videos(plans: Plans) -> Table:
    columns = ("video", "split", "frames in", "stride from", "stride", "clips", "RGB", "flow", "after last flow")
    table = _table("Videos: RGB frames per flow frame, and how that was found", columns, num_text=4)
    for split, plan in plans.items():
        for video in plan.videos:
            numbers = video.num_rgb, video.num_flow, None if video.num_flow is None else video.num_clamped
            counts = ("-" if number is None else f"{number:,}" for number in numbers)
            known = video.kind or "missing", video.stride_from, str(video.stride or "?"), str(video.num_clips)
            table.add_row(video.video_id, split, *known, *counts)
    return table


def show_outcome(split: str, outcome: Outcome, display: Display) -> None:
    """One paragraph per split: what is there now, and what it took."""
    index = outcome.index
    size = _size(sum(shard.bytes for shard in index.shards))
    shards = f"{len(index.shards)} shard{'' if len(index.shards) == 1 else 's'}"
    what = f"{index.num_clips:,} clips, {count_frames(index)}, {size} in {shards}"
    if outcome.was_complete:
        display.print(f"{split}: {what}; complete, kept as it is")
    else:
        seconds = max(outcome.seconds, 1e-9)
        rate = f"{outcome.num_clips / seconds:.1f} clips/s, {outcome.num_bytes / seconds / 1e6:.1f} MB/s"
        kept = f"; {outcome.num_kept} shards were there" if outcome.num_kept else ""
        display.print(f"{split}: {what}; {outcome.seconds:.1f} s, {rate}{kept}")
    if outcome.num_clamped:
        display.print(
            f"{split}: frames that stand after their video's last flow frame, and use that: {outcome.num_clamped:,}"
        )
    if index.not_recoded:
        display.print(
            f"{split}: {index.not_recoded:,} JPEGs cannot be re-coded: stored as they are, which loads slower"
        )
    if index.left_out:
        num_bad = len({problem.clip_id for problem in index.left_out})
        display.print(f"{split}: left out {num_bad} bad clips, listed under left_out in index.json")


class WritingProgress:
    """Progress of writing: bytes, rate, and time left."""

    def __init__(self, display: Display, split: str, tasks: Sequence[ShardTask]) -> None:
        self._display, self._tasks = display, tasks
        self._sizes = [sum(clip.num_bytes for clip in task.clips) for task in tasks]
        self._num_clips = sum(len(task.clips) for task in tasks)
        self._names = {shard_path(task.folder, task.number).name for task in tasks}
        self._done, self._begun = 0, time.monotonic()
        self.num_bytes = sum(self._sizes)
        display.begin(split, total=self.num_bytes / MB, unit="MB", every=PLAIN_OFTEN)

    def update(self, finished: int | None) -> None:
        """Show it, once the task at this position is finished, or now and then while none is."""
        self._done += 0 if finished is None else self._sizes[finished]
        done = min(self._done + self._scratch_bytes(), self.num_bytes)
        seconds = time.monotonic() - self._begun
        self._display.update(pace(done, self.num_bytes, self._num_clips, seconds), done / MB)

    def _scratch_bytes(self) -> int:
        """Bytes of unfinished shards, seen from outside, so that processes need not report."""
        total = 0
        for scratch in self._tasks[0].folder.glob(".*.tfrecord.*.tmp"):
            if scratch.name[1:].split(".tfrecord")[0] + ".tfrecord" in self._names:
                with suppress(FileNotFoundError):  # finished in between
                    total += scratch.stat().st_size
        return total


def pace(done: int, num_bytes: int, num_clips: int, seconds: float) -> str:
    """The rate at which `done` of `num_bytes` were written, and the time left, in words."""
    share, seconds = min(1.0, done / max(1, num_bytes)), max(1e-9, seconds)
    rate = f"{share * num_clips / seconds:.1f} clips/s  {done / seconds / MB:.1f} MB/s"
    return f"{rate}  {timedelta(seconds=round(seconds * (1 - share) / share))} left" if share else rate
