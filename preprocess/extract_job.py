"""Extracts all videos of a table into one folder of frames: what is there is kept, the options are one for all."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from configs.display import Display
from configs.errors import UserError
from configs.files import atomic_write, make_folder, remove_scratch
from configs.lock import locked
from preprocess.extraction import ExtractOptions, VideoTask, extract_video, read_record
from preprocess.segments import Located, Table, video_id_of
from preprocess.videos import VideoError
from preprocess.workers import Workers

MARKER = "extract.json"
VERSION = 1  # of what the same options make of a video
SMALL_JOB_BYTES = 2**20  # of videos that are done before other processes would have started
VARIES = 1.5  # times the usual interval between frames, beyond which a rate counts as varying
MUCH_CLIPPED = 0.02  # share of a video's flow

Records = dict[str, dict[str, Any]]  # by file


def extract_videos(
    table: Table,
    found: Mapping[str, Located],
    frames: Path,
    options: ExtractOptions,
    num_workers: int,
    display: Display,
) -> tuple[Records, dict[str, str]]:
    """Extract what is not there yet; returns the records of the videos that are, and why others are not.

    Raises:
        UserError: the folder holds other things, or frames made with other options; another process is at work there.
    """
    make_folder(frames)
    with locked(frames):
        _check_options(frames, options)
        tasks = _tasks(table, found, frames, options)
        records = {file: record for file, task in tasks.items() if (record := read_record(task)) is not None}
        bad = {file: place.why for file, place in found.items() if place.why is not None and file not in records}
        todo = {file: task for file, task in tasks.items() if file not in records and file not in bad}
        for folder in frames.glob("*/*/"):
            remove_scratch(folder)
        _say_what_is_there(records, todo, display)
        display.begin("extract", len(todo), unit="videos")
        with Workers(num_workers, fewer="--workers 1") as workers:
            for done in workers.run(extract_video, list(todo.values()), _num_bytes(todo) < SMALL_JOB_BYTES):
                if done is None:
                    display.update()
                    continue
                file, result = list(todo)[done[0]], done[1]
                if isinstance(result, VideoError):
                    bad[file] = result.why
                else:
                    records[file] = result
                display.advance()
    for file in todo:
        if file in records:
            _note(file, records[file], options, display)
    return records, bad


def _check_options(frames: Path, options: ExtractOptions) -> None:
    """Hold a folder of frames to one set of options: flow of two scales in it would be told apart by nobody."""
    marker, wanted = frames / MARKER, asdict(options)
    if not marker.exists():
        if any(not path.name.startswith(".") for path in frames.iterdir()):
            raise UserError(f"{frames}: holds files that this command did not write; name a new folder")
        with atomic_write(marker, "w") as file:
            json.dump({"version": VERSION, "options": wanted, "packages": _packages()}, file, indent=2)
        return
    try:
        found = json.loads(marker.read_text("utf-8"))
        version, made_with = found["version"], found["options"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{marker}: is damaged; remove {frames} to do its videos again") from None
    other = [
        f"{key} was {made_with.get(key)}, is {value}" for key, value in wanted.items() if made_with.get(key) != value
    ]
    if other or version != VERSION:
        raise UserError(
            f"{frames}: was made with other options: {', '.join(other) or f'version was {version}, is {VERSION}'}; "
            "name another folder, or remove this one to do its videos again"
        )


def _packages() -> dict[str, str]:
    """What decoded the videos and computed the flow."""
    import av
    import cv2

    return {"av": av.__version__, "cv2": cv2.__version__}


def _tasks(table: Table, found: Mapping[str, Located], frames: Path, options: ExtractOptions) -> dict[str, VideoTask]:
    """A task for each file that lies where it may, also for one that is gone: its frames may be there."""
    participants = {segment.file: segment.participant for segment in table.segments}
    return {
        file: VideoTask(place.path, frames, participants[file], video_id_of(file), options)
        for file, place in found.items()
        if place.path is not None
    }


def _num_bytes(tasks: Mapping[str, VideoTask]) -> int:
    return sum(task.source.stat().st_size for task in tasks.values())


def _say_what_is_there(records: Records, todo: Mapping[str, VideoTask], display: Display) -> None:
    if records:
        display.line(f"{len(records)} videos are there already")
    for file, task in todo.items():
        if task.record.exists():
            display.line(f"{file}: changed since it was extracted, or its frames did; done again")


def _note(file: str, record: Mapping[str, Any], options: ExtractOptions, display: Display) -> None:
    """Say what of a video may not be as it was meant."""
    intervals = _intervals(record["times"])
    usual = statistics.median(intervals) if intervals else 0.0
    varies = max(intervals, default=0) > VARIES * usual or min(intervals, default=0) < usual / VARIES
    if varies and options.fps is None:
        display.line(
            f"note: {file}: {1000 * min(intervals):.0f} to {1000 * max(intervals):.0f} ms between frames, usually "
            f"{1000 * usual:.0f}: its flow varies with them; --fps {1 / usual:.4g} would take frames at one rate"
        )
    if record["clipped"] > MUCH_CLIPPED:
        display.line(f"note: {file}: {record['clipped']:.1%} of its flow lies beyond --bound {options.bound:g}")


def _intervals(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]
