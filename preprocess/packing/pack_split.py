"""Packing of one split: plan, write the shards that are missing, then the index."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from common.display import Display
from common.errors import UserError
from common.files import make_folder, remove_scratch
from common.lock import locked
from configs.schema import DataSection
from pipeline.format.index import INDEX_NAME, Index, Inputs, LeftOut, ShardError, Target, read_index
from pipeline.format.split import open_split
from pipeline.format.streams import STREAMS, Stream
from preprocess.annotations import Clip
from preprocess.packing.codec import Codec
from preprocess.packing.plan import Problem, are_unchanged, clips_digest, cut_shards, frames_digest, shard_digest
from preprocess.packing.report import Outcome, WritingProgress
from preprocess.packing.shard_writer import ShardTask, part_path, shard_path, write_shard
from preprocess.packing.split_plan import SplitPlan, plan_split
from preprocess.packing.split_writer import LABEL, Part, Wanted, finish, leftovers, options_of, read_part, read_source
from preprocess.sources.advice import explain_root
from preprocess.sources.frames import FrameRules
from preprocess.workers import Workers, is_small_job

MIB = 2**20


@dataclass
class SplitPacker:
    """Packs one split with the given workers; safe to run again after any interruption."""

    split: str
    clips: Sequence[Clip]
    data: DataSection
    workers: Workers
    display: Display
    targets: tuple[Target, ...] = LABEL
    streams: tuple[Stream, ...] = tuple(STREAMS.values())

    @property
    def folder(self) -> Path:
        """Where the split belongs."""
        return self.data.shards / self.split

    @cached_property
    def wanted(self) -> Wanted:
        """What its index will say of how it was packed, before a byte is read."""
        source = read_source(self.data.frames)
        return Wanted(self.split, options_of(self.data), clips_digest(self.clips), source, self.streams, self.targets)

    def plan(self) -> SplitPlan:
        """Find every frame of the split; what is missing is listed in the plan."""
        return plan_split(self.split, self.clips, self.data, self._rules(), self.workers, self.display)

    def _rules(self) -> FrameRules:
        """How the frames are to be read: by the config, and by what their extraction left of itself."""
        options = (self.wanted.source or {}).get("options")
        stride = options.get("stride") if isinstance(options, dict) else None
        known = stride if isinstance(stride, int) and stride > 0 else None
        return FrameRules(self.data.layout, self.data.flow_stride or known, tuple(s.name for s in self.streams))

    def pack(self) -> Outcome:
        """Pack the split, or keep it when it is complete.

        Raises:
            UserError: clips are bad, the split is complete but other than it would be packed now, or somebody else is
                at work there.
        """
        index = self._complete_index()
        if index is not None:
            self._tidy(index)
            return Outcome(index, was_complete=True)
        begin = time.monotonic()
        make_folder(self.folder)
        with locked(self.folder):
            plan = self.plan()
            self._check(plan)
            remove_scratch(self.folder)
            (self.folder / INDEX_NAME).unlink(missing_ok=True)
            outcome = self._write(plan)
        outcome.seconds = time.monotonic() - begin
        return outcome

    def _tidy(self, index: Index) -> None:
        """Remove what an interruption left beside a complete index; a read-only disk is fine."""
        if leftovers(self.folder, index):
            with suppress(OSError, UserError), locked(self.folder):
                for path in leftovers(self.folder, index):
                    path.unlink(missing_ok=True)

    def _complete_index(self) -> Index | None:
        """The index of a complete split of the same input; None when there is work to do.

        Raises:
            UserError: the split is complete, but other than it would be packed now. It is never removed here.
        """
        if not (self.folder / INDEX_NAME).exists():
            return None
        index = read_index(self.folder)
        differing = self.wanted.differences(index, self.data.frames.is_dir()) or self._changed_frames(index)
        if differing:
            way_out = f"remove {self.folder} to pack it anew, or set data.shards to another folder"
            raise UserError(f"{self.folder}: complete, but packed otherwise: {', '.join(differing)}; {way_out}")
        if index.left_out and self.data.on_bad_clip == "error":
            raise UserError(
                f"{self.folder}: complete, but without {len(index.left_out)} bad clips (left_out in {INDEX_NAME}); "
                f"set data.on_bad_clip=skip to use it so, or mend the clips and remove {self.folder} to pack it anew"
            )
        try:
            open_split(self.folder)
        except ShardError as error:
            self.display.print(f"{self.split}: not complete any more, packing it again ({error})")
            return None
        return index

    def _changed_frames(self, index: Index) -> list[str]:
        """How the frames differ from those that were packed, as far as all are (still) there."""
        since = (self.folder / INDEX_NAME).stat().st_mtime
        if index.inputs.num_files is None or are_unchanged(str(self.data.frames), self.clips, index.streams, since):
            return []
        plan = replace(self, streams=index.streams).plan()
        if {problem.clip_id for problem in plan.problems} - {problem.clip_id for problem in index.left_out}:
            return []
        was, now = index.inputs, self._inputs(plan)
        if was.frames == now.frames:
            return []
        counts = (f"{found.num_files:,} files of {found.num_bytes:,} bytes" for found in (was, now))
        return [f"its frames were other ones: {' then, '.join(counts)} now (data.frames)"]

    def _inputs(self, plan: SplitPlan) -> Inputs:
        return Inputs(
            annotations=self.wanted.annotations,
            frames=frames_digest(plan.clips),
            num_files=sum(clip.sizes.size for clip in plan.clips),
            num_bytes=sum(int(clip.sizes.sum()) for clip in plan.clips),
        )

    def _check(self, plan: SplitPlan) -> None:
        """Report at once what is missing; go on to find other faults, if any clip is left."""
        if not plan.problems:
            return
        message = plan.explain(self.split, plan.problems)
        if not plan.clips:
            kitchens = list(dict.fromkeys(video.participant_id for video in plan.videos))
            wrong_root = explain_root(str(plan.root), kitchens) if self.data.layout == "epic" else ""
            raise UserError(f"data.frames: {plan.root.absolute()}: {wrong_root}" if wrong_root else message)
        if self.data.on_bad_clip == "error":
            head = message.split("\n", 1)[0].rstrip(":")
            self.display.print(f"{head}; packing goes on to find what else is wrong, Ctrl-C stops it")

    def _write(self, plan: SplitPlan) -> Outcome:
        """Write the shards that are missing, then the table and the index."""
        tasks = self._tasks(plan)
        parts = {}
        for task in tasks:  # one that lacks bad clips is no use where they are an error
            part = read_part(task)
            if part is not None and (task.skip or not part[1]["left_out"]):
                parts[task.number] = part
        todo = [task for task in tasks if task.number not in parts]
        problems = plan.in_order([*plan.problems, *self._write_shards(todo)])
        if problems and self.data.on_bad_clip == "error":
            raise UserError(plan.explain(self.split, problems))
        written = {task.number: _written_part(task) for task in todo}
        parts |= written
        summaries = [parts[task.number][1] for task in tasks]
        skipped = [Problem(**problem) for summary in summaries for problem in summary["left_out"]]
        problems = plan.in_order([*plan.problems, *skipped])
        if not any(summary["clips"] for summary in summaries):
            raise UserError(plan.explain(self.split, problems))
        left_out = [LeftOut(**problem._asdict()) for problem in problems]
        index = finish(self.folder, [parts[task.number] for task in tasks], self.wanted, self._inputs(plan), left_out)
        return Outcome(
            index,
            num_bytes=sum(summary["bytes"] for _, summary in written.values()),
            num_clips=sum(summary["clips"] for _, summary in written.values()),
            num_kept=len(tasks) - len(todo),
            num_clamped=sum(video.num_clamped for video in plan.videos),
        )

    def _tasks(self, plan: SplitPlan) -> list[ShardTask]:
        """Every shard of the split: what goes where depends on the frames' sizes alone."""
        data, codec, names = self.data, Codec.of(self.data), tuple(target.name for target in self.targets)
        return [
            ShardTask(
                folder=self.folder,
                number=number,
                clips=tuple(clips),
                root=str(data.frames),
                decode=data.check == "decode",
                codec=codec,
                skip=data.on_bad_clip == "skip",
                digest=shard_digest(clips, f"{data.check} {codec} {names} {self.streams}"),
                streams=self.streams,
                targets=names,
            )
            for number, clips in enumerate(cut_shards(plan.clips, data.shard_mib * MIB))
        ]

    def _write_shards(self, tasks: Sequence[ShardTask]) -> list[Problem]:
        """Write shards; return what is wrong with clips, in the order of the shards."""
        for task in tasks:  # a part must never stand beside a shard of another cut
            part_path(shard_path(self.folder, task.number)).unlink(missing_ok=True)
        if tasks and tasks[0].codec.recoder:
            _compile_recoder(self.display)
        progress = WritingProgress(self.display, self.split, tasks)
        # Copying is so quick that each shard shows as progress; what takes longer shows it within a shard.
        copies = self.data.check == "header" and self.data.codec == "jpeg"
        is_small = is_small_job(progress.num_bytes) or (copies and self.workers.is_single)
        results = self.workers.map(write_shard, tasks, is_small, progress.update)
        return [problem for result in results for problem in result.problems]


def _compile_recoder(display: Display) -> None:
    """Have it compiled here, once, before every worker does it for itself."""
    from preprocess.packing import restarts  # here: importing Numba takes its time

    with ThreadPoolExecutor(1) as thread:
        compiled = thread.submit(restarts.warm_up)
        if not wait([compiled], timeout=1).done:
            display.print("compiling what re-codes JPEGs, which is kept for later: about ten seconds")
        compiled.result()


def _written_part(task: ShardTask) -> Part:
    part = read_part(task)
    if part is None:
        raise UserError(
            f"{task.folder}: shard {task.number:05d} vanished while the split was packed; does another process "
            "write there, or do the workers of a cluster see another folder under this name?"
        )
    return part
