"""Plan of a split: its videos side by side, and all that keeps clips from being packed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from common.display import PLAIN_OFTEN, Display
from common.errors import listed
from configs.schema import DataSection
from preprocess.annotations import Clip
from preprocess.packing.codec import Codec
from preprocess.packing.plan import PlannedClip, Problem, VideoPlan, plan_video, tar_bytes, video_tasks
from preprocess.sources.frames import FrameRules
from preprocess.workers import Workers

MAX_HINTS = 3  # in a message about what is missing
MAX_NOTES = 10  # about videos
SMALL_JOB_VIDEOS, SMALL_JOB_TARS = 16, 64 * 2**20  # bytes; listed in less time than processes need to start


@dataclass
class SplitPlan:
    """A split as its annotations and the disk have it."""

    videos: list[VideoPlan]
    clips: list[PlannedClip]  # in the order of the annotations
    problems: list[Problem]
    order: dict[str, int]  # position of each clip in the annotations
    root: Path  # of the frames
    skips: bool  # whether bad clips are left out

    def in_order(self, problems: Iterable[Problem]) -> list[Problem]:
        """Problems as the annotations have their clips, whichever process found them."""
        return sorted(problems, key=lambda problem: self.order[problem.clip_id])

    def explain(self, split: str, problems: Sequence[Problem]) -> str:
        """One message of all that is wrong, a line per file: clips, fault, what helps."""
        num_bad = len({problem.clip_id for problem in problems})
        head = f"{split}: {num_bad} of {len(self.order)} clips cannot be packed from {self.root.absolute()}:"
        files: dict[tuple[str, str], list[str]] = {}
        for problem in problems:
            files.setdefault((problem.file, problem.why), []).append(problem.clip_id)
        hints = ((file, f"; {hint}") for video in self.videos for file, hint in video.hints.items() if hint)
        told = dict(islice(hints, MAX_HINTS))
        lines = [
            f"clip{'s' * (len(ids) > 1)} {listed(ids)}: {file} {why}{told.get(file, '')}"
            for (file, why), ids in files.items()
        ]
        end = "" if self.skips else ", or set data.on_bad_clip=skip to leave these clips out"
        return "\n  ".join([head, *lines, f"mend the files and run the same command again{end}"])


def plan_split(
    split: str, clips: Sequence[Clip], data: DataSection, rules: FrameRules, workers: Workers, display: Display
) -> SplitPlan:
    """Find every frame of the split; what is missing is listed in the plan."""
    stored = None if data.frames_per_clip == "all" else data.frames_per_clip
    tasks = video_tasks(str(data.frames), clips, stored, Codec.of(data), rules)
    display.begin(f"{split}: looking at the frames", len(tasks), unit="videos", every=PLAIN_OFTEN)
    is_small = len(tasks) < SMALL_JOB_VIDEOS and sum(map(tar_bytes, tasks)) < SMALL_JOB_TARS
    videos = workers.map(plan_video, tasks, is_small or workers.is_single, display.tick)
    notes = [_settle_strides(videos), listed([note for v in videos for note in v.notes], MAX_NOTES, "\n  ")]
    for note in filter(None, notes):
        display.print(f"{split}: note: {note}")
    order = {clip.clip_id: position for position, clip in enumerate(clips)}
    planned = sorted((clip for video in videos for clip in video.clips), key=lambda clip: order[clip.clip.clip_id])
    plan = SplitPlan(videos, planned, [], order, data.frames, data.on_bad_clip == "skip")
    plan.problems = plan.in_order(problem for video in videos for problem in video.problems)
    return plan


def _settle_strides(videos: Iterable[VideoPlan]) -> str:
    """Check guessed strides against the whole set: counts say 2 only where all do.

    Else half as much flow as RGB may be flow that is cut off; such videos lose their clips. Returns what to say of it.
    """
    guessed = [video for video in videos if video.stride_from in ("counts", "default")]
    halved = [video for video in guessed if video.stride == 2]
    if not halved:
        return ""
    found = f"{len(halved)} of {len(guessed)} videos"
    if len(halved) == len(guessed):
        return (
            f"{found} have half as many flow frames as RGB frames: one flow frame stands for two RGB frames "
            "(data.flow_stride says otherwise)"
        )
    why = f"has half as many flow frames as RGB frames, as {found} do; data.flow_stride=1 or 2 decides"
    for video in halved:
        video.problems += [Problem(planned.clip.clip_id, video.video_id, why) for planned in video.clips]
        video.clips = []
    return ""
