"""Reads annotation CSVs, EPIC-KITCHENS-100's fifteen columns or X-Norm's six, into typed and checked rows."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from configs.errors import ConfigError, UserError

MAX_LISTED = 20  # wrong rows in one message
MAX_FRAME = 2**31 - 1
COLUMNS = ("narration_id", "participant_id", "video_id", "start_frame", "stop_frame")
LABEL_COLUMNS = ("verb_class", "verb")  # EPIC's own, where `verb` is text; X-Norm's, where it is the number

# Ids become parts of paths and names of files: no separators, no control characters, no white space at the ends.
_SAFE_ID = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x20\x7f](?:[^/\\\x00-\x1f\x7f]{0,198}[^/\\\x00-\x20\x7f])?")
_is_safe = _SAFE_ID.fullmatch


class Clip(NamedTuple):
    """One annotated segment."""

    clip_id: str  # the narration id
    participant_id: str
    video_id: str
    start_frame: int  # number of an RGB frame, 1-based
    stop_frame: int  # inclusive
    label: int


def read_split(paths: Sequence[Path], split: str) -> list[Clip]:
    """All rows of a split's files, in order; UserError lists every wrong row of every file.

    Raises:
        ConfigError: a file that is not there.
        UserError: missing columns, wrong values, ids that occur twice.
    """
    clips: list[Clip] = []
    wrong: list[str] = []
    places: dict[str, tuple[Path, int]] = {}
    for path in paths:
        for line, found in _rows(path, split):
            if isinstance(found, str):
                wrong.append(f"{path}:{line}: {found}")
            elif (first := places.setdefault(found.clip_id, (path, line))) != (path, line):
                where = f"{first[0]}:{first[1]}"
                wrong.append(f"{path}:{line}: narration_id {found.clip_id!r} occurs twice, first at {where}")
            else:
                clips.append(found)
    if wrong:
        raise UserError(_listed(wrong))
    if not clips:
        raise UserError(f"{', '.join(map(str, paths))}: no rows below the header; the {split} split needs some")
    return clips


def _listed(wrong: list[str]) -> str:
    more = [f"... and {len(wrong) - MAX_LISTED} more"] if len(wrong) > MAX_LISTED else []
    head = "" if len(wrong) == 1 else f"{len(wrong)} rows of the annotations are wrong:\n  "
    return head + "\n  ".join(wrong[:MAX_LISTED] + more)


def _rows(path: Path, split: str) -> Iterator[tuple[int, Clip | str]]:
    """(line, the row or what is wrong with it) for each row of a file."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            try:
                yield from _parse(path, reader)
            except csv.Error as error:
                yield reader.line_num, f"not CSV: {error}"
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV") from None
    except OSError as error:
        raise ConfigError(f"data.annotations.{split}: {path}: cannot be read ({error.strerror})") from None


def _parse(path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[int, Clip | str]]:
    header = [name.strip() for name in next(reader, [])]
    places, label_name = _columns(path, header)
    width = len(header)
    for row in reader:
        if not row:
            continue
        line: int = reader.line_num  # type: ignore[attr-defined]  # the csv module names no type for its readers
        if len(row) != width:
            yield line, f"found {len(row)} cells, the header has {width}"
            continue
        clip_id, participant, video, start, stop, label = [row[place].strip() for place in places]
        if start.isdecimal() and stop.isdecimal() and label.isdecimal() and max(map(len, (start, stop, label))) < 11:
            clip = Clip(clip_id, participant, video, int(start), int(stop), int(label))
            wrong = _wrong(clip)
            yield line, clip if wrong is None else wrong
        else:
            cells = {"start_frame": start, "stop_frame": stop, label_name: label}
            yield line, "; ".join(_not_a_number(cells))


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
    if not (_is_safe(clip.clip_id) and _is_safe(clip.participant_id) and _is_safe(clip.video_id)):
        ids = zip(COLUMNS[:3], clip[:3], strict=True)
        bad_ids = "; ".join(f"{name}: found {value[:80]!r}" for name, value in ids if not _is_safe(value))
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
        elif len(text) > 10:
            yield f"{name}: found {text[:80]}; at most {MAX_FRAME}"
