"""From rows about one's own videos to annotations: frame numbers, class numbers, splits."""

import csv
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from configs.files import atomic_files, make_folder
from preprocess.annotations import Clip
from preprocess.segments import SPLITS, UNITS, Segment, Table, video_id_of

EPSILON = 1e-5  # seconds; a moment that is written in decimals is the frame's own
MAX_BEHIND = 0.5  # seconds that a segment may end behind its video, as rounded durations do


class SegmentError(Exception):
    """A row that does not fit its video."""


@dataclass(frozen=True)
class Labelled:
    """The clips of each split that has some, and the classes' names (None where labels are numbers already)."""

    splits: dict[str, list[Clip]]
    classes: list[str] | None

    @property
    def num_classes(self) -> int:
        """Labels run from 0 to this, exclusive."""
        return 1 + max(clip.label for clips in self.splits.values() for clip in clips)

    def absent(self, split: str) -> list[int]:
        """The labels that occur, but not in this split."""
        labels = {name: {clip.label for clip in clips} for name, clips in self.splits.items()}
        return sorted(set().union(*labels.values()) - labels[split])


def label(
    table: Table, records: Mapping[str, Mapping[str, Any]], shares: Sequence[float], seed: int
) -> tuple[Labelled, list[str]]:
    """The clips of the rows whose video has a record, and what is wrong with rows that do not fit theirs."""
    numbers, classes = number_labels([segment.label for segment in table.segments])
    files = list(dict.fromkeys(segment.file for segment in table.segments))
    drawn = {} if table.has_splits else draw_splits(files, shares, seed)
    splits: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    counts = dict.fromkeys(files, 0)
    wrong = []
    for segment, number in zip(table.segments, numbers, strict=True):
        video = video_id_of(segment.file)
        clip_id = f"{video}_{counts[segment.file]}"
        counts[segment.file] += 1
        if segment.file not in records:
            continue
        try:
            span = frame_span(segment, table.unit, records[segment.file]["times"])
        except SegmentError as error:
            wrong.append(f"{table.path}:{segment.line}: {segment.file}: {error}")
            continue
        split = segment.split or drawn[segment.file]
        splits[split].append(Clip(clip_id, segment.participant, video, *span, number))
    return Labelled({split: clips for split, clips in splits.items() if clips}, classes), wrong


def number_labels(labels: Sequence[str]) -> tuple[list[int], list[str] | None]:
    """Class numbers: the labels themselves where all are whole numbers, else their names' places in the alphabet."""
    if all(label.isdecimal() and len(label) < 10 for label in labels):
        return [int(label) for label in labels], None
    classes = sorted(set(labels))
    places = {name: place for place, name in enumerate(classes)}
    return [places[label] for label in labels], classes


def draw_splits(files: Sequence[str], shares: Sequence[float], seed: int) -> dict[str, str]:
    """Deal whole videos out to train, val and test, at random by `seed` and in these shares.

    Each split with a share gets one video at least, in the order of SPLITS, as long as there are some.
    """
    order = [files[place] for place in np.random.default_rng(seed).permutation(len(files))]
    wanted = [share for share in shares if share > 0]
    names = [split for split, share in zip(SPLITS, shares, strict=True) if share > 0]
    sizes = [min(1, max(0, len(files) - place)) for place in range(len(wanted))]
    while sum(sizes) < len(files):  # the next goes to whichever split lacks most of its share
        lacks = [share / sum(wanted) * len(files) - size for share, size in zip(wanted, sizes, strict=True)]
        sizes[lacks.index(max(lacks))] += 1
    dealt = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    return dict(zip(order, dealt, strict=True))


def frame_span(segment: Segment, unit: str, times: Sequence[float]) -> tuple[int, int]:
    """The first and last frame of a segment, from 1, both in it.

    In seconds these are the frames that appear from its start on and before its stop, by the frames' own times, which
    holds where the rate varies, too. Where none does, it is the one that is shown when it starts.

    Raises:
        SegmentError: it lies behind the video's end.
    """
    start_name, stop_name = UNITS[unit]
    if unit == "frames":
        first, last = int(segment.start or 1), int(segment.stop or len(times))
        if last > len(times) or first > last:
            name, found = (stop_name, last) if last > len(times) else (start_name, first)
            raise SegmentError(f"{name}: found {found}; the video has {len(times)} frames")
        return first, last
    start, stop = segment.start or 0.0, math.inf if segment.stop is None else segment.stop
    interval = (times[-1] - times[0]) / max(1, len(times) - 1)
    end = times[-1] + interval
    if start >= end or (stop > end + MAX_BEHIND and math.isfinite(stop)):
        name, moment = (start_name, start) if start >= end else (stop_name, stop)
        raise SegmentError(f"{name}: found {moment:g} s; the video ends at {end:.2f} s")
    first, last = 1 + bisect_left(times, start - EPSILON), bisect_left(times, stop - EPSILON)
    return (first, last) if first <= last else (last, last)


def write_annotations(labelled: Labelled, folder: Path) -> dict[str, Path]:
    """Write a CSV a split and, where labels are names, classes.csv; returns the CSVs' paths by split."""
    make_folder(folder)
    names = labelled.classes
    header = ["narration_id", "participant_id", "video_id", "start_frame", "stop_frame", "verb"]
    with atomic_files(folder) as create:  # together: the splits of one dealing out never stand beside those of another
        for split, clips in labelled.splits.items():
            rows = [
                [*clip[:-1], *([clip.label] if names is None else [names[clip.label], clip.label])] for clip in clips
            ]
            _write_csv(create(f"{split}.csv", "w"), header if names is None else [*header, "verb_class"], rows)
        if names is not None:
            _write_csv(create("classes.csv", "w"), ["id", "key"], list(enumerate(names)))
    for split in set(SPLITS) - labelled.splits.keys():  # of an earlier run that had more of them
        (folder / f"{split}.csv").unlink(missing_ok=True)
    return {split: folder / f"{split}.csv" for split in labelled.splits}


def _write_csv(file: IO[str], header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
