"""The CSV of one's own videos: which part of which file shows what, in seconds or in frames."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from common.epic import stride_of_id
from common.errors import ConfigError, UserError
from configs.schema import SPLITS
from preprocess.annotations import is_safe_id, wrong_rows

UNITS = {"seconds": ("start", "stop"), "frames": ("start_frame", "stop_frame")}
OWN_PARTICIPANT = "own"
COLUMNS = f"""\
file, label; start and stop (seconds, or h:m:s) or start_frame and stop_frame (from 1, both in the clip);
if wanted, split ({", ".join(SPLITS)}) and participant"""
_TIME = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,4}):)?(\d{1,9}(?:\.\d{0,9})?)")
_ENDING = re.compile(r"\.[^./\\]*$")
_UNSAFE = re.compile(r"[/\\\x00-\x20\x7f]+")


@dataclass(frozen=True)
class Segment:
    """A row of the CSV."""

    line: int
    file: str  # the video, relative to the folder of videos
    start: float | None  # in the table's unit; None: where the video begins
    stop: float | None  # None: where it ends
    label: str  # as it is written
    split: str  # one of SPLITS, or "" where the table leaves it open
    participant: str  # the folder that the video goes to


@dataclass(frozen=True)
class Table:
    """A CSV: its rows, and what start and stop count."""

    path: Path
    unit: str  # a key of UNITS
    segments: list[Segment]

    @property
    def has_splits(self) -> bool:
        """Whether the rows say themselves which split they belong to."""
        return self.segments[0].split != ""


def read_table(path: Path, labelled: bool = True) -> Table:
    """Read the CSV; unless the rows have to be `labelled`, there may be no labels.

    Raises:
        ConfigError: it cannot be read.
        UserError: missing columns; wrong rows, all of them in one message.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened)
            header = [name.strip() for name in next(reader, [])]
            unit = _unit(path, header, labelled)
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not CSV in UTF-8 ({error})") from None
    segments, wrong = [], []
    for line, row in rows:
        cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
        file, label, split, participant = (cells.get(name, "") for name in ("file", "label", "split", "participant"))
        file = str(PurePosixPath(file)) if file else ""  # one spelling of a path: ./a.mp4 is a.mp4
        start, stop = (_number(cells.get(name, ""), unit) for name in UNITS[unit])
        segment = Segment(line, file, start, stop, label, split, participant or OWN_PARTICIPANT)
        faults = list(_faults(segment, cells, unit, len(row) - len(header), labelled))
        wrong += [f"{path}:{line}: {'; '.join(faults)}"] if faults else []
        segments.append(segment)
    if wrong:
        raise UserError(wrong_rows(wrong))
    if not segments:
        raise UserError(f"{path}: no rows below the header")
    return Table(path, unit, segments)


def _unit(path: Path, header: list[str], labelled: bool) -> str:
    """What the columns of start and stop count; whole videos where there are none."""
    twice = sorted({name for name in header if header.count(name) > 1})
    missing = [name for name in ("file", *(["label"] if labelled else [])) if name not in header]
    named = [unit for unit, columns in UNITS.items() if any(name in header for name in columns)]
    halves = [name for unit in named for name in UNITS[unit] if name not in header]
    if missing or halves or twice or len(named) > 1:
        what = f"missing: {', '.join(missing + halves)}" if missing or halves else "times in two units"
        what = f"twice: {', '.join(twice)}" if twice else what
        raise UserError(f"{path}:1: columns {what}; found: {', '.join(header)[:300]}; allowed: {COLUMNS}")
    return named[0] if named else "seconds"


def _number(text: str, unit: str) -> float | None:
    """Seconds, or a frame's number; NaN for what is neither."""
    if not text:
        return None
    if unit == "frames":
        return float(text) if text.isdecimal() and len(text) < 10 else float("nan")
    match = _TIME.fullmatch(text)
    if match is None:
        return float("nan")
    hours, minutes, seconds = match.groups(default="0")
    # One conversion of the decimals as they stand, so that 0.12 is the 0.12 that a frame's own time is.
    return float(seconds) + 60 * int(minutes) + 3600 * int(hours)


def _faults(segment: Segment, cells: dict[str, str], unit: str, surplus: int, labelled: bool) -> Iterator[str]:
    """What is wrong with a row."""
    if surplus:
        yield f"found {abs(surplus)} cells {'more' if surplus > 0 else 'fewer'} than the header has"
        return
    if not segment.file:
        yield "file: empty; allowed: a path inside the folder of videos"
    if labelled and not segment.label:
        yield "label: empty"
    for name, value in zip(UNITS[unit], (segment.start, segment.stop), strict=True):
        is_wrong = value is not None and (value != value or (unit == "frames" and value < 1))
        allowed = "seconds such as 12.5 or 0:12.5" if unit == "seconds" else "a frame's number, from 1"
        if is_wrong:
            yield f"{name}: found {cells[name][:80]!r}; allowed: {allowed}, or empty for the video's own"
    start, stop = segment.start or 0.0, segment.stop
    if stop is not None and (stop < start or (stop == start and unit == "seconds")):
        yield f"{UNITS[unit][1]}: found {stop:g}, which is not after {UNITS[unit][0]} {start:g}"
    if "split" in cells and segment.split not in SPLITS:
        yield f"split: found {segment.split[:80]!r}; allowed: {', '.join(SPLITS)}"
    if not is_safe_id(segment.participant):
        yield f"participant: found {segment.participant[:80]!r}; it names a folder, so without '/' or '\\'"


def video_id_of(file: str) -> str:
    """The id of a video: its path without the ending, in one word.

    Ids of EPIC's own form, PXX_YY and PXX_1YY, say which stride the flow has; ours must not be taken for one.
    """
    name = _UNSAFE.sub("-", _ENDING.sub("", file)).strip("-") or "video"
    return name if stride_of_id(name) is None else f"{OWN_PARTICIPANT}-{name}"


@dataclass(frozen=True)
class Located:
    """Where a file is (None: outside the folder), and what is wrong with it, if anything."""

    path: Path | None
    why: str | None = None


def locate(root: Path, table: Table) -> dict[str, Located]:
    """Each file of the table. Nothing outside `root` is read.

    Raises:
        UserError: two files come to one id, or one file has two participants.
    """
    found: dict[str, Located] = {}
    ids: dict[str, Segment] = {}
    inside = root.resolve()
    for segment in table.segments:
        first = ids.setdefault(video_id_of(segment.file), segment)
        if (first.file, first.participant) != (segment.file, segment.participant):
            raise UserError(
                f"{table.path}:{segment.line}: {segment.file} of participant {segment.participant} and "
                f"{first.file} of {first.participant} (line {first.line}) come to one video id, "
                f"{video_id_of(segment.file)!r}; rename one, or give one file one participant"
            )
        if segment.file not in found:
            found[segment.file] = _locate(inside, segment.file)
    return found


def _locate(root: Path, file: str) -> Located:
    path = Path(file)
    if path.is_absolute() or ".." in path.parts:
        return Located(None, "leads outside the folder of videos; allowed: paths inside it")
    if not is_safe_id(f"{video_id_of(file)}_000000"):
        return Located(None, "makes too long an id; a path has at most 190 characters")
    target = (root / path).resolve()
    if not target.is_relative_to(root):
        return Located(None, f"is a link that leads outside {root}; allowed: files inside it")
    if not target.exists():
        return Located(target, "is missing")
    return Located(target, None if target.is_file() or target.is_dir() else "is neither a file nor a folder of frames")
