"""Reads annotation CSVs, EPIC-KITCHENS-100's fifteen columns or X-Norm's six, into typed and checked rows."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from configs.errors import ConfigError, UserError, listed

if TYPE_CHECKING:
    import _csv  # where the csv module's readers have their type

MAX_FRAME = 2**31 - 1
MAX_DIGITS = 10  # of a number
COLUMNS = ("narration_id", "participant_id", "video_id", "start_frame", "stop_frame")
LABEL_COLUMNS = ("verb_class", "verb")  # EPIC's own, where `verb` is text; X-Norm's, where it is the number

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
    label: int

    @property
    def targets(self) -> tuple[int, ...]:
        """The class of each target."""
        return (self.label,)


def read_split(paths: Sequence[Path], split: str) -> list[Clip]:
    """All rows of a split's files, in order; UserError lists every wrong row of every file.

    Raises:
        ConfigError: a file that is not there.
        UserError: missing columns, wrong values, ids that occur twice.
    """
    files = [_read(path, split) for path in paths]
    clips = [clip for file in files for clip in file.clips]
    if len({clip.clip_id for clip in clips}) < len(clips):
        _note_repeated(files)
    wrong = [f"{file.path}:{line}: {what}" for file in files for line, what in sorted(file.wrong)]
    if wrong:
        raise UserError(wrong_rows(wrong))
    if not clips:
        raise UserError(f"{', '.join(map(str, paths))}: no rows below the header; the {split} split needs some")
    return clips


@dataclass
class _File:
    """What was read of one file: its clips with their lines, and what is wrong with other lines."""

    path: Path
    places: list[int]  # where the fields of Clip stand in a row
    label_name: str
    width: int  # cells a row
    clips: list[Clip] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # of each clip
    wrong: list[tuple[int, str]] = field(default_factory=list)

    def take(self, row: list[str], line: int) -> None:
        """Read one row."""
        clip = self._clip(row)
        if isinstance(clip, str):
            self.wrong.append((line, clip))
        else:
            self.clips.append(clip)
            self.lines.append(line)

    def _clip(self, row: list[str]) -> Clip | str:
        """The clip of a row, or what is wrong with it."""
        if len(row) != self.width:
            return f"found {len(row)} cells, the header has {self.width}"
        clip_id, participant, video, *cells = (row[place].strip() for place in self.places)
        if not all(cell.isdecimal() and len(cell) <= MAX_DIGITS for cell in cells):
            return "; ".join(_not_a_number(dict(zip((*COLUMNS[3:], self.label_name), cells, strict=True))))
        clip = Clip(clip_id, participant, video, *map(int, cells))
        return _wrong(clip) or clip


def _read(path: Path, split: str) -> _File:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _parse(path, csv.reader(file))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV") from None
    except OSError as error:
        raise ConfigError(f"data.annotations.{split}: {path}: cannot be read ({error.strerror})") from None


def _parse(path: Path, reader: "_csv.Reader") -> _File:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    file = _File(path, *_columns(path, header), len(header))
    try:
        for row in reader:
            if row:
                file.take(row, reader.line_num)
    except csv.Error as error:
        file.wrong.append((reader.line_num, f"not CSV: {error}"))
    return file


def _note_repeated(files: Iterable[_File]) -> None:
    """Add to each file's wrong lines those whose id has occurred before, in it or in an earlier one."""
    places: dict[str, str] = {}
    for file in files:
        for clip, line in zip(file.clips, file.lines, strict=True):
            first = places.setdefault(clip.clip_id, here := f"{file.path}:{line}")
            if first is not here:
                file.wrong.append((line, f"narration_id {clip.clip_id!r} occurs twice, first at {first}"))


def wrong_rows(wrong: Sequence[str]) -> str:
    """One message of what is wrong with the rows of annotations, a line each."""
    head = "" if len(wrong) == 1 else f"{len(wrong)} rows of the annotations are wrong:\n  "
    return head + listed(wrong, separator="\n  ")


def _columns(path: Path, header: list[str]) -> tuple[list[int], str]:
    """Where the fields of Clip stand in a row, and the name of the label's column."""
    label = next((name for name in LABEL_COLUMNS if name in header), None)
    missing = [name for name in COLUMNS if name not in header]
    missing += [] if label else [" or ".join(LABEL_COLUMNS)]
    if missing or label is None:
        found = ", ".join(header) if any(header) else "an empty file"
        raise UserError(
            f"{path}:1: missing columns: {', '.join(missing)}; found: {found[:500]}; allowed: EPIC-KITCHENS-100's own "
            f"columns, or {', '.join(COLUMNS)}, verb (a number)"
        )
    return [header.index(name) for name in (*COLUMNS, label)], label


def _wrong(clip: Clip) -> str | None:
    if not (is_safe_id(clip.clip_id) and is_safe_id(clip.participant_id) and is_safe_id(clip.video_id)):
        ids = zip(COLUMNS[:3], clip[:3], strict=True)
        bad_ids = "; ".join(f"{name}: found {value[:80]!r}" for name, value in ids if not is_safe_id(value))
        return f"{bad_ids}; an id is 1 to 200 characters without '/' or '\\', and not '.' or '..'"
    if clip.start_frame < 1:
        return "start_frame: found 0; frames count from 1"
    if clip.stop_frame < clip.start_frame:
        return f"stop_frame: found {clip.stop_frame}, before start_frame {clip.start_frame}; it is the last frame"
    if clip.stop_frame > MAX_FRAME or clip.label > MAX_FRAME:
        return f"stop_frame or label: found {max(clip.stop_frame, clip.label)}; at most {MAX_FRAME}"
    return None


def _not_a_number(cells: dict[str, str]) -> Iterable[str]:
    for name, text in cells.items():
        if not text.isdecimal():
            hint = (
                "; the name of a verb can stand in `verb` where `verb_class` has its number" if name == "verb" else ""
            )
            yield f"{name}: found {text[:80]!r}; allowed: a whole number, not negative{hint}"
        elif len(text) > MAX_DIGITS:
            yield f"{name}: found {text[:80]}; at most {MAX_FRAME}"
