"""Annotation CSVs, EPIC-100's own columns or X-Norm's six, as checked clips of splits."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from common.epic import flow_index, stride_of_id
from common.errors import ConfigError, UserError, listed
from configs.presets import Preset
from pipeline.format.streams import UNKNOWN

if TYPE_CHECKING:
    import _csv  # where the csv module's readers have their type

Targets = Mapping[str, Sequence[str]]

MAX_FRAME = 2**31 - 1
MAX_DIGITS = 10  # of a number
COLUMNS = ("narration_id", "participant_id", "video_id", "start_frame", "stop_frame")
# Columns of each target's class numbers, the first that is there: EPIC's own, where `verb` is text, or X-Norm's, where
# that is the number.
LABEL: Targets = {"label": ("verb_class", "verb")}
UNLABELLED = ("test",)  # splits that may have no labels; they are scored into predictions alone

# Ids become parts of paths and names of files: no separators, no control characters, no white space at the ends.
_SAFE_ID = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x20\x7f](?:[^/\\\x00-\x1f\x7f]{0,198}[^/\\\x00-\x20\x7f])?")
is_safe_id = _SAFE_ID.fullmatch


class Clip(NamedTuple):
    """One annotated segment."""

    clip_id: str  # the narration id
    participant_id: str
    video_id: str
    start_frame: int  # number of an RGB frame, 1-based
    stop_frame: int  # inclusive
    targets: tuple[int, ...]  # the class of each; -1 where nobody knows it

    @property
    def label(self) -> int:
        """The class of the first target."""
        return self.targets[0]


@dataclass
class Rows:
    """What the files of a split say."""

    clips: list[Clip]  # in the order of the files
    texts: dict[str, dict[int, Counter[str]]]  # of each target's classes, where a column of text stands beside numbers
    unlabelled: list[Path]  # the files without any label


def read_split(paths: Sequence[Path], split: str, targets: Targets = LABEL) -> Rows:
    """All rows of a split's files; UserError lists every wrong row of every file.

    Raises:
        ConfigError: a file that is not there.
        UserError: missing columns, wrong values, ids that occur twice.
    """
    files = [_read(path, split, targets) for path in paths]
    clips = [clip for file in files for clip in file.clips]
    if len({clip.clip_id for clip in clips}) < len(clips):
        _note_repeated(files)
    wrong = [f"{file.path}:{line}: {what}" for file in files for line, what in sorted(file.wrong)]
    if wrong:
        raise UserError(wrong_rows(wrong))
    if not clips:
        raise UserError(f"{', '.join(map(str, paths))}: no rows below the header; the {split} split needs some")
    texts: dict[str, dict[int, Counter[str]]] = {target: {} for target in targets}
    for file in files:
        for target, label, text in file.texts:
            texts[target].setdefault(label, Counter())[text] += 1
    return Rows(clips, texts, [file.path for file in files if not file.labels])


def select(clips: Sequence[Clip], preset: Preset, split: str) -> list[Clip]:
    """Clips that a preset takes for a split, in the files' order, their classes renumbered."""
    videos = preset.validation_videos
    selected = []
    for clip in clips:
        in_split = videos is None or split == "test" or (clip.video_id in videos) == (split == "val")
        if in_split and preset.takes(clip.participant_id, split) and _num_flow(clip) >= preset.min_flow_frames:
            numbers = preset.renumber(clip.targets)
            selected += [clip._replace(targets=numbers)] if numbers is not None else []
    return selected


def _num_flow(clip: Clip) -> int:
    """Flow frames that stand beside a clip's RGB frames, by the video's id."""
    stride = stride_of_id(clip.video_id) or 1
    return flow_index(clip.stop_frame, stride) - flow_index(clip.start_frame, stride) + 1


@dataclass
class _File:
    """What was read of one file: its clips with their lines, and what is wrong with other lines."""

    path: Path
    positions: list[int]  # in a row: of the ids and frames of Clip, and then of its classes
    labels: dict[str, str]  # name of the column of each target's class; empty in a file without labels
    text_positions: dict[str, int]  # where a class is written as text, by target
    width: int  # cells per row
    num_targets: int
    clips: list[Clip] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # of each clip
    wrong: list[tuple[int, str]] = field(default_factory=list)
    texts: list[tuple[str, int, str]] = field(default_factory=list)  # target, class, text

    def take(self, row: list[str], line: int) -> None:
        """Read one row."""
        clip = self._clip(row)
        if isinstance(clip, str):
            self.wrong.append((line, clip))
        else:
            self.clips.append(clip)
            self.lines.append(line)
            for target, label in zip(self.labels, clip.targets, strict=False):
                if target in self.text_positions:
                    self.texts.append((target, label, row[self.text_positions[target]].strip()))

    def _clip(self, row: list[str]) -> Clip | str:
        """The clip of a row, or what is wrong with it."""
        if len(row) != self.width:
            return f"found {len(row)} cells, the header has {self.width}"
        clip_id, participant, video, *cells = (row[position].strip() for position in self.positions)
        if not all(cell.isdecimal() and len(cell) <= MAX_DIGITS for cell in cells):
            return "; ".join(_not_a_number(dict(zip((*COLUMNS[3:], *self.labels.values()), cells, strict=True))))
        start, stop, *classes = map(int, cells)
        clip = Clip(clip_id, participant, video, start, stop, tuple(classes) or (UNKNOWN,) * self.num_targets)
        return _wrong(clip) or clip


def _read(path: Path, split: str, targets: Targets) -> _File:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _parse(path, csv.reader(file), targets, may_lack=split in UNLABELLED)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV") from None
    except OSError as error:
        raise ConfigError(f"data.annotations.{split}: {path}: cannot be read ({error.strerror})") from None


def _parse(path: Path, reader: "_csv.Reader", targets: Targets, may_lack: bool) -> _File:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    file = _File(path, *_columns(path, header, targets, may_lack), len(header), len(targets))
    try:
        for row in reader:
            if row:
                file.take(row, reader.line_num)
    except csv.Error as error:
        file.wrong.append((reader.line_num, f"not CSV: {error}"))
    return file


def _note_repeated(files: Iterable[_File]) -> None:
    """Add rows whose id has occurred before to each file's wrong lines."""
    seen: dict[str, str] = {}
    for file in files:
        for clip, line in zip(file.clips, file.lines, strict=True):
            first = seen.setdefault(clip.clip_id, here := f"{file.path}:{line}")
            if first is not here:
                file.wrong.append((line, f"narration_id {clip.clip_id!r} occurs twice, first at {first}"))


def wrong_rows(wrong: Sequence[str]) -> str:
    """One message of what is wrong with the rows of annotations, a line each."""
    head = "" if len(wrong) == 1 else f"{len(wrong)} rows of the annotations are wrong:\n  "
    return head + listed(wrong, separator="\n  ")


def _columns(
    path: Path, header: list[str], targets: Targets, may_lack: bool
) -> tuple[list[int], dict[str, str], dict[str, int]]:
    """Positions of Clip's fields in a row, columns of its classes, positions of their texts."""
    labels = {t: name for t, names in targets.items() for name in reversed(names) if name in header}
    missing = [name for name in COLUMNS if name not in header]
    if labels or not may_lack:
        missing += [" or ".join(names) for target, names in targets.items() if target not in labels]
    if missing:
        found = ", ".join(header) if any(header) else "an empty file"
        raise UserError(
            f"{path}:1: missing columns: {', '.join(missing)}; found: {found[:500]}; allowed: EPIC-KITCHENS-100's own "
            f"columns, or {', '.join(COLUMNS)}, verb (a number)"
        )
    texts = {target: name.removesuffix("_class") for target, name in labels.items() if name.endswith("_class")}
    text_positions = {target: header.index(text) for target, text in texts.items() if text in header}
    return [header.index(name) for name in (*COLUMNS, *labels.values())], labels, text_positions


def _wrong(clip: Clip) -> str | None:
    if not (is_safe_id(clip.clip_id) and is_safe_id(clip.participant_id) and is_safe_id(clip.video_id)):
        ids = zip(COLUMNS[:3], clip[:3], strict=True)
        bad_ids = "; ".join(f"{name}: found {value[:80]!r}" for name, value in ids if not is_safe_id(value))
        return f"{bad_ids}; an id is 1 to 200 characters without '/' or '\\', and not '.' or '..'"
    if clip.start_frame < 1:
        return "start_frame: found 0; frames count from 1"
    if clip.stop_frame < clip.start_frame:
        return f"stop_frame: found {clip.stop_frame}, before start_frame {clip.start_frame}; it is the last frame"
    if (largest := max(clip.stop_frame, *clip.targets)) > MAX_FRAME:
        return f"stop_frame or label: found {largest}; at most {MAX_FRAME}"
    return None


def _not_a_number(cells: dict[str, str]) -> Iterable[str]:
    for name, text in cells.items():
        if not text.isdecimal():
            hint = "; the name of a verb can stand in `verb` where `verb_class` has its number"
            yield f"{name}: found {text[:80]!r}; allowed: a whole number, not negative{hint if name == 'verb' else ''}"
        elif len(text) > MAX_DIGITS:
            yield f"{name}: found {text[:80]}; at most {MAX_FRAME}"
