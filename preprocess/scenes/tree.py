"""The tree of a synthetic task: videos and annotations in EPIC's layout, written once and whole."""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from common.errors import ConfigError, UserError
from common.files import as_user_error, atomic_write
from configs.schema import SPLITS
from preprocess.annotations import COLUMNS
from preprocess.scenes import TASKS
from preprocess.scenes.task import LabelledScene, Task
from preprocess.sources.tar import tar_writer
from preprocess.workers import Workers

MARKER = "synth.json"
VERSION = 1  # of the bytes that the same options give
SMALL = 64  # clips that are drawn before other processes would have started


@dataclass(frozen=True)
class SynthOptions:
    """All that decides the bytes of a tree; errors name the command's option."""

    task: str
    seed: int
    videos: tuple[int, int, int]  # in train, val and test
    clips: int  # per video
    frames: int  # RGB frames per clip

    @property
    def drawn(self) -> Task:
        """The task itself."""
        return TASKS[self.task]

    def __post_init__(self) -> None:
        num_classes, stride = len(self.drawn.class_names), max(self.drawn.strides)
        if self.seed < 0:
            raise ConfigError(f"--seed: found {self.seed}; allowed: 0 and above")
        if min(self.videos) < 1:
            raise ConfigError(f"--videos: found {list(self.videos)}; allowed: at least one in each of {list(SPLITS)}")
        if self.clips < 1 or self.clips % num_classes:
            allowed = f"multiples of {num_classes}, as each class comes equally often"
            raise ConfigError(f"--clips: found {self.clips}; allowed: {allowed}")
        if self.frames < stride or self.frames % stride:
            allowed = f"multiples of {stride}, the RGB frames per flow frame"
            raise ConfigError(f"--frames: found {self.frames}; allowed: {allowed}")


@dataclass(frozen=True)
class Video:
    """One video of the tree; every second one is a .tar."""

    number: int  # over all splits
    split: str
    stride: int  # RGB frames per flow frame: 2 in videos of 2018's kind, 1 in those of 2020's
    options: SynthOptions

    @property
    def participant_id(self) -> str:
        """PXX; two videos each."""
        return f"P{self.number // 2 + 1:02d}"

    @property
    def video_id(self) -> str:
        """PXX_YY or, of 2020's kind, PXX_1YY."""
        return f"{self.participant_id}_{'1' if self.stride == 1 else ''}{self.number % 2 + 1:02d}"

    def clips(self) -> list[LabelledScene]:
        """The scene and the label of each clip, in the order of the video."""
        return self.options.drawn.deal(self.options.seed, self.number, self.options.clips)


@dataclass(frozen=True)
class SynthTree:
    """Where a tree's parts are."""

    frames: Path  # <participant>/{rgb_frames,flow_frames}/<video>[.tar]
    annotations: dict[str, Path]  # split -> CSV
    verb_classes: Path
    videos: list[Video]


def write_tree(
    root: Path,
    *,
    task: str = "additive",
    seed: int = 0,
    videos: tuple[int, int, int] | None = None,
    clips: int | None = None,
    frames: int | None = None,
    workers: int = 0,
) -> SynthTree:
    """Write the tree, or keep it where it is complete; what was interrupted is done again.

    Args:
        root: a new or empty folder, or one that holds this very tree, complete or not.
        task: a key of TASKS.
        seed: another seed, other frames.
        videos: how many in train, val and test; None, here and below: as many as the task has unless asked otherwise.
        clips: clips per video, a multiple of the number of classes.
        frames: RGB frames per clip, a multiple of those per flow frame.
        workers: processes that draw; 0 means as many as there are cores.

    Raises:
        ConfigError: an option out of range.
        UserError: `root` holds something else, or cannot be written.
    """
    if task not in TASKS:
        raise ConfigError(f"--task: found {task!r}; allowed: {', '.join(TASKS)}")
    usual = TASKS[task]
    options = SynthOptions(
        task,
        seed,
        usual.videos if videos is None else videos,
        usual.clips if clips is None else clips,
        usual.frames if frames is None else frames,
    )
    root = Path(root)
    tree = _plan(root, options)
    with as_user_error(root):
        if not _is_complete(root, options):
            _write(tree, workers)
            _mark(root, options, complete=True)
    return tree


def _plan(root: Path, options: SynthOptions) -> SynthTree:
    """The tree's names. The last video of train and the last of test have a stride of their own."""
    splits = [split for split, count in zip(SPLITS, options.videos, strict=True) for _ in range(count)]
    newer = (options.videos[0] - 1, len(splits) - 1)
    usual, last = options.drawn.strides
    videos = [Video(number, split, last if number in newer else usual, options) for number, split in enumerate(splits)]
    folder = root / "annotations"
    return SynthTree(root, {split: folder / f"{split}.csv" for split in SPLITS}, folder / "verb_classes.csv", videos)


def _is_complete(root: Path, options: SynthOptions) -> bool:
    """Whether this very tree is there already; if nothing is, the folder is marked as begun."""
    marker = root / MARKER
    if not marker.exists():
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise UserError(f"{root}: holds files that are not a synthetic tree's; name a new or an empty folder")
        _mark(root, options, complete=False)
    found = marker.read_text("utf-8")
    if found not in (_marker(options, True), _marker(options, False)):
        raise UserError(
            f"{root}: holds another tree, {found.strip()}; asked for is {_marker(options, True).strip()}; "
            "remove the folder or name another"
        )
    return found == _marker(options, True)


def _marker(options: SynthOptions, complete: bool) -> str:
    return json.dumps({"version": VERSION, **asdict(options), "complete": complete}) + "\n"


def _mark(root: Path, options: SynthOptions, complete: bool) -> None:
    with atomic_write(root / MARKER, "w") as file:
        file.write(_marker(options, complete))


def _write(tree: SynthTree, workers: int) -> None:
    """Write all but the marker, in place of what an interrupted run left."""
    for name in {video.participant_id for video in tree.videos} | {"annotations"}:
        shutil.rmtree(tree.frames / name, ignore_errors=True)
    _write_annotations(tree)
    num_clips = sum(video.options.clips for video in tree.videos)
    with Workers(workers) as pool:
        pool.map(partial(_write_video, tree.frames), tree.videos, num_clips <= SMALL)


def _write_annotations(tree: SynthTree) -> None:
    """The CSVs in X-Norm's form; stop_frame is the clip's last frame."""
    tree.verb_classes.parent.mkdir()
    _write_csv(tree.verb_classes, ("id", "key"), list(enumerate(tree.videos[0].options.drawn.class_names)))
    for split, path in tree.annotations.items():
        _write_csv(
            path, (*COLUMNS, "verb"), [row for video in tree.videos if video.split == split for row in _rows(video)]
        )


def _rows(video: Video) -> list[tuple[object, ...]]:
    length, labels = video.options.frames, [label for _, label in video.clips()]
    return [
        (f"{video.video_id}_{i}", video.participant_id, video.video_id, i * length + 1, (i + 1) * length, label)
        for i, label in enumerate(labels)
    ]


def _write_csv(path: Path, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    with atomic_write(path, "w") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _write_video(root: Path, video: Video) -> None:
    """Write folders or archives as EPIC's: members ./frame_*.jpg, or ./u/ and ./v/."""
    rgb, flow = video.options.drawn.draw(video.clips(), video.options.frames, video.stride)
    for stream, files in (("rgb_frames", rgb), ("flow_frames", flow)):
        target = root / video.participant_id / stream / video.video_id
        target.parent.mkdir(parents=True, exist_ok=True)
        if video.number % 2:
            with tar_writer(target.with_name(f"{target.name}.tar")) as add:
                for name in sorted(files):
                    add(f"./{name}", files[name])
            continue
        for name, content in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
