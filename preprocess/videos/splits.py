"""Annotations of one's own videos: frame numbers, class numbers, random splits."""

import csv
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import ConfigError, UserError
from common.files import atomic_files, make_folder
from configs.schema import SPLITS
from preprocess.annotations import COLUMNS, Clip
from preprocess.classes import plain_name
from preprocess.videos.extract_video import VideoRecord
from preprocess.videos.segments import UNITS, Segment, Table, video_id_of

EPSILON = 1e-5  # seconds; a time that is written in decimals is the frame's own
MAX_BEYOND = 0.5  # seconds that a segment may end after its video, as rounded durations do


class SegmentError(Exception):
    """A row that does not fit its video."""


@dataclass(frozen=True)
class Labelled:
    """Clips of each split that has some, and class names (None: labels are numbers)."""

    splits: dict[str, list[Clip]]
    classes: list[str] | None

    @property
    def num_classes(self) -> int:
        """Labels run from 0 to this, exclusive."""
        return len(self.classes or ()) or 1 + max(clip.label for clips in self.splits.values() for clip in clips)

    def absent(self, split: str) -> list[str]:
        """The labels that occur, but not in this split."""
        labels = {name: {clip.label for clip in clips} for name, clips in self.splits.items()}
        absent = sorted(set().union(*labels.values()) - labels.get(split, set()))
        return [str(label) if self.classes is None else self.classes[label] for label in absent]


def label(
    table: Table,
    records: Mapping[str, VideoRecord],
    shares: Sequence[float],
    seed: int,
    known: Sequence[str] | None = None,
) -> tuple[Labelled, list[str]]:
    """Clips of rows whose video has a record, and faults of rows that do not fit theirs.

    Where the table names no splits, videos are drawn by `shares` and `seed`. `known` classes keep their numbers.
    """
    numbers, classes = number_labels([segment.label for segment in table.segments], known)
    clips: list[tuple[Segment, Clip]] = []
    wrong = []
    counts: Counter[str] = Counter()
    for segment, number in zip(table.segments, numbers, strict=True):
        video = video_id_of(segment.file)
        clip_id = f"{video}_{counts[segment.file]}"
        counts[segment.file] += 1
        record = records.get(segment.file)
        if record is None:
            continue
        try:
            span = frame_span(segment, table.unit, record.times, record.frames)
        except SegmentError as error:
            wrong.append(f"{table.path}:{segment.line}: {segment.file}: {error}")
        else:
            clips.append((segment, Clip(clip_id, segment.participant, video, *span, (number,))))
    labels: dict[str, set[int]] = {}
    for segment, clip in clips:
        labels.setdefault(segment.file, set()).add(clip.label)
    drawn = {} if table.has_splits else draw_splits(labels, shares, seed)
    splits = {split: [clip for row, clip in clips if (row.split or drawn[row.file]) == split] for split in SPLITS}
    return Labelled({split: chosen for split, chosen in splits.items() if chosen}, classes), wrong


def number_labels(labels: Sequence[str], known: Sequence[str] | None = None) -> tuple[list[int], list[str] | None]:
    """Class numbers: labels that are whole numbers, else positions in the alphabet.

    Where `known` classes have their numbers already, new names follow on them, by the alphabet.

    Raises:
        UserError: labels are numbers beyond those of the known classes.
    """
    are_numbers = all(label.isdecimal() and len(label) < 10 for label in labels)
    if are_numbers and (known is None or not set(labels) <= set(known)):
        numbers = [int(label) for label in labels]
        if known is not None and max(numbers) >= len(known):
            raise UserError(f"label: found {max(numbers)}; --classes numbers its {len(known)} classes from 0")
        return numbers, None if known is None else list(known)
    classes = list(known or [])
    classes += sorted(set(labels) - set(classes))
    positions = {name: position for position, name in enumerate(classes)}
    return [positions[label] for label in labels], classes


def alike_labels(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ in their writing alone: most likely one class."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(plain_name(name), name), name) for name in classes]
    return [(one, other) for one, other in pairs if one != other]


def read_classes(path: Path) -> list[str]:
    """The names of a classes.csv (id, key), in the order of their numbers, which run from 0.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--classes {path}: cannot be read as CSV ({error})") from None
    try:
        names = {int(row["id"]): row["key"].strip() for row in rows}
    except (KeyError, TypeError, ValueError, AttributeError):
        names = {}
    if not names or sorted(names) != list(range(len(rows))) or len(set(names.values())) < len(rows):
        raise ConfigError(f"--classes {path}: allowed: the columns id, from 0 without gaps, and key, each name once")
    return [names[number] for number in range(len(rows))]


def draw_splits(labels: Mapping[str, set[int]], shares: Sequence[float], seed: int) -> dict[str, str]:
    """Random train/val/test split of whole videos, by `seed` and in these shares.

    Each split with a share gets one video at least, in the order of SPLITS, as long as there are some. Then videos
    are exchanged, or come to train, until no class is without training clips, as far as that can be helped.

    Args:
        labels: of each file's clips.
    """
    files = list(labels)
    order = [files[position] for position in np.random.default_rng(seed).permutation(len(files))]
    wanted = [share for share in shares if share > 0]
    names = [split for split, share in zip(SPLITS, shares, strict=True) if share > 0]
    sizes = [min(1, max(0, len(files) - position)) for position in range(len(wanted))]
    while sum(sizes) < len(files):  # the next goes to whichever split lacks most of its share
        lacks = [share / sum(wanted) * len(files) - size for share, size in zip(wanted, sizes, strict=True)]
        sizes[lacks.index(max(lacks))] += 1
    dealt = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    return _cover_classes(dict(zip(order, dealt, strict=True)), labels)


def _cover_classes(splits: dict[str, str], labels: Mapping[str, set[int]]) -> dict[str, str]:
    """Exchange videos until train has clips of every class, or none brings it more."""
    while True:
        trained = Counter(label for file, split in splits.items() if split == "train" for label in labels[file])
        best, most = None, 0
        for file, other in _exchanges(splits, labels, trained):
            lost = set() if other is None else {label for label in labels[other] if trained[label] == 1} - labels[file]
            gain = sum(trained[label] == 0 for label in labels[file]) - len(lost)
            best, most = ((file, other), gain) if gain > most else (best, most)
        if best is None:
            return splits
        file, other = best
        splits = splits | ({} if other is None else {other: splits[file]}) | {file: "train"}


def _exchanges(
    splits: Mapping[str, str], labels: Mapping[str, set[int]], trained: Counter[int]
) -> Iterator[tuple[str, str | None]]:
    """What may bring train a missing class: a video for one of its own, or a spare one."""
    sizes = Counter(splits.values())
    trains = [file for file, split in splits.items() if split == "train"]
    for file, split in splits.items():
        if split != "train" and any(trained[label] == 0 for label in labels[file]):
            yield from ((file, other) for other in trains)
            if sizes[split] > 1:
                yield file, None


def frame_span(segment: Segment, unit: str, times: Sequence[float] | None, num_frames: int) -> tuple[int, int]:
    """First and last frame of a segment, from 1, of a video with these frame `times`.

    In seconds these are the frames that appear from its start on and before its stop, by the frames' own times, which
    holds where the rate varies, too. Where none does, it is the one that is shown when it starts.

    Raises:
        SegmentError: it lies after the video's end or before its first frame, or times are asked of what has none.
    """
    start_name, stop_name = UNITS[unit]
    if unit == "frames" or (segment.start is None and segment.stop is None):
        first, last = int(segment.start or 1), int(segment.stop or num_frames)
        if last > num_frames or first > last:
            name, found = (stop_name, last) if last > num_frames else (start_name, first)
            raise SegmentError(f"{name}: found {found}; the video has {num_frames} frames")
        return first, last
    if times is None:
        raise SegmentError(
            "a folder of frames has no seconds; count frames (start_frame, stop_frame), or say its --fps"
        )
    start, stop = segment.start or 0.0, math.inf if segment.stop is None else segment.stop
    interval = (times[-1] - times[0]) / max(1, len(times) - 1)
    end = times[-1] + interval
    if start >= end or (stop > end + MAX_BEYOND and math.isfinite(stop)):
        name, found_at = (start_name, start) if start >= end else (stop_name, stop)
        raise SegmentError(f"{name}: found {found_at:g} s; the video ends at {end:.2f} s")
    if stop <= times[0]:
        raise SegmentError(f"{stop_name}: found {stop:g} s; the video's first frame is shown at {times[0]:.2f} s")
    first, last = 1 + bisect_left(times, start - EPSILON), bisect_left(times, stop - EPSILON)
    return (first, last) if first <= last else (last, last)


def write_annotations(labelled: Labelled, folder: Path) -> dict[str, Path]:
    """Write a CSV per split, and classes.csv of names; return the CSVs' paths by split."""
    make_folder(folder)
    names = labelled.classes
    header = [*COLUMNS, "verb", *(["verb_class"] if names is not None else [])]
    with atomic_files(folder) as create:  # together: the splits of one drawing never stand beside those of another
        tables: dict[str, list[Sequence[object]]] = {}
        for split, clips in labelled.splits.items():
            labels = ([clip.label] if names is None else [names[clip.label], clip.label] for clip in clips)
            tables[split] = [header, *([*clip[:-1], *cells] for clip, cells in zip(clips, labels, strict=True))]
        if names is not None:
            tables["classes"] = [("id", "key"), *enumerate(names)]
        for name, rows in tables.items():
            csv.writer(create(f"{name}.csv", "w"), lineterminator="\n").writerows(rows)
    for name in {*SPLITS, "classes"} - tables.keys():  # of an earlier run
        (folder / f"{name}.csv").unlink(missing_ok=True)
    return {split: folder / f"{split}.csv" for split in labelled.splits}
