"""Extraction of all videos of a table into one folder, with one set of options."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from common.display import PLAIN_OFTEN, Display
from common.errors import UserError
from common.files import atomic_write, make_folder, remove_scratch
from common.lock import locked
from preprocess.videos.decode import VideoError
from preprocess.videos.encoding import ExtractOptions
from preprocess.videos.extract_video import VideoRecord, VideoTask, extract_video, open_source, read_record
from preprocess.videos.segments import Located, Table, video_id_of
from preprocess.workers import Workers, is_small_job

MARKER = "extract.json"
VERSION = 2  # of what the same options make of a video
WORK_PER_BYTE = 8  # of a video, in bytes that are copied and checked, about
COUNTS = ".frames.tmp"

Records = dict[str, VideoRecord]  # by file


class Extraction(BaseModel):
    """How a folder's frames and flow were made: the content of extract.json (docs/own-data.md)."""

    version: int = VERSION
    options: ExtractOptions
    packages: dict[str, str]  # what decoded the videos and computed the flow


def read_extraction(frames: Path) -> Extraction | None:
    """How the frames below a root were made; None where extract.py did not make them.

    Raises:
        UserError: the file that says so is damaged.
    """
    marker = frames / MARKER
    try:
        return Extraction.model_validate_json(marker.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise UserError(f"{marker}: is damaged; remove {frames} to do its videos again") from None


def extract_videos(
    table: Table,
    found: Mapping[str, Located],
    frames: Path,
    options: ExtractOptions,
    num_workers: int,
    display: Display,
) -> tuple[Records, dict[str, str]]:
    """Extract missing videos; return the records of all, and why others have none.

    Raises:
        UserError: the folder holds other things, or frames made with other options; another process is at work there.
    """
    make_folder(frames)
    with locked(frames):
        _hold_to_options(frames, options)
        participants = {segment.file: segment.participant for segment in table.segments}
        tasks = {  # also for a file that is gone: its frames may be there
            file: VideoTask(
                located.path, frames, participants[file], video_id_of(file), options, counts=frames / COUNTS
            )
            for file, located in found.items()
            if located.path is not None
        }
        records = {file: record for file, task in tasks.items() if (record := read_record(task)) is not None}
        bad = {file: located.why for file, located in found.items() if located.why and file not in records}
        todo = {file: task for file, task in tasks.items() if file not in records and file not in bad}
        for folder in frames.glob("*/*/"):
            remove_scratch(folder)
        if records:
            display.print(f"{len(records)} videos are there already")
        for file in (file for file, task in todo.items() if task.paths[-1].exists()):
            display.print(f"{file}: changed since it was extracted, or its frames did; done again")
        for file, result in _extract(todo, num_workers, display).items():
            if isinstance(result, VideoError):
                bad[file] = result.why
            else:
                records[file] = result
                for note in result.notes:
                    display.print(f"note: {file}: {note}")
    return records, bad


def _extract(todo: Mapping[str, VideoTask], num_workers: int, display: Display) -> dict[str, VideoRecord | VideoError]:
    """Records of the videos, or what is wrong with them, in the order of their names."""
    sizes = {file: _num_bytes(task.source) for file, task in todo.items()}
    is_small = is_small_job(WORK_PER_BYTE * sum(sizes.values()))
    with Workers(num_workers, fewer="--workers 1") as workers, _frame_counts(todo) as counts:
        tasks = share_out(todo, sizes, workers.count)
        expected = workers.map(_expected_frames, list(tasks.values()), is_small)
        progress = _Progress(counts, np.array(expected, np.int64), display)
        found = dict(zip(tasks, workers.map(extract_video, list(tasks.values()), is_small, progress.tick), strict=True))
    return {file: found[file] for file in todo}


def share_out(todo: Mapping[str, VideoTask], sizes: Mapping[str, int], num_cores: int) -> dict[str, VideoTask]:
    """Tasks, large videos first, each with as many threads as its share of the work."""
    order = sorted(todo, key=lambda file: -sizes[file])
    total = max(1, sum(sizes.values()))
    return {
        file: todo[file]._replace(slot=slot, num_threads=max(1, min(num_cores, -(-num_cores * sizes[file] // total))))
        for slot, file in enumerate(order)
    }


def _expected_frames(task: VideoTask) -> int:
    """About how many frames a video has; what is wrong with it is said later."""
    with suppress(VideoError):
        return open_source(task.source, task.options).estimate_count()
    return 0


@contextmanager
def _frame_counts(todo: Mapping[str, VideoTask]) -> Iterator[NDArray[np.int64]]:
    """A count of done frames for each video, in a file that all processes have open."""
    if not todo:
        yield np.zeros(0, np.int64)
        return
    path = next(iter(todo.values())).counts
    assert path is not None
    try:
        yield np.memmap(path, np.int64, "w+", shape=len(todo))
    finally:
        path.unlink()


class _Progress:
    """Shows how many frames are done, and how many per second."""

    def __init__(self, counts: NDArray[np.int64], expected: NDArray[np.int64], display: Display) -> None:
        self._counts, self._expected, self._display = counts, expected, display
        self._begun = time.monotonic()
        self._is_done = np.zeros(len(counts), bool)
        display.begin("extract", int(expected.sum()), unit="frames", every=PLAIN_OFTEN)

    def tick(self, finished: int | None) -> None:
        """Update the display: `finished` is a video that has ended, None none."""
        if finished is not None:
            self._is_done[finished] = True
        rate = self._counts.sum() / max(1e-9, time.monotonic() - self._begun)
        reached = np.where(self._is_done, self._expected, np.minimum(self._counts, self._expected)).sum()
        text = f"{rate:.1f} frames/s  {self._is_done.sum()}/{len(self._is_done)} videos"
        self._display.update(text, float(reached))


def _hold_to_options(frames: Path, options: ExtractOptions) -> None:
    """Refuse other options for a folder: nothing would tell flow of one scale from another."""
    found = read_extraction(frames)
    if found is None:
        if any(not path.name.startswith(".") for path in frames.iterdir()):
            raise UserError(f"{frames}: holds files that this command did not write; name a new folder")
        import av  # of the extra `extract`
        import cv2

        packages = {"av": av.__version__, "cv2": cv2.__version__}
        with atomic_write(frames / MARKER, "w") as file:
            file.write(Extraction(options=options, packages=packages).model_dump_json(indent=2))
        return
    was = {**found.options.model_dump(), "version": found.version}
    wanted = {**options.model_dump(), "version": VERSION}
    other = [f"{key} was {was[key]}, is {value}" for key, value in wanted.items() if was[key] != value]
    if other:
        raise UserError(
            f"{frames}: was made with other options: {', '.join(other)}; "
            "name another folder, or remove this one to do its videos again"
        )


def _num_bytes(source: Path) -> int:
    return sum(path.lstat().st_size for path in source.iterdir()) if source.is_dir() else source.stat().st_size
