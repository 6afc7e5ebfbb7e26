"""Reader: the stored bytes of a clip as checked views into the mapped shards, without a copy."""

import errno
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from pipeline.format.index import ShardError
from pipeline.format.split import Split
from pipeline.format.streams import channels_of, planes_of
from pipeline.format.tfrecord import record_payload, stored_crc
from pipeline.views import View

Bytes = NDArray[np.uint8]
_POPULATE_READ = 22  # madvise's MADV_POPULATE_READ, since Linux 5.14
_READAHEAD = 128 * 1024  # bytes that the kernel reads anyway beyond what is touched
CRC_MISMATCH = "the CRC does not match"


class CorruptClipError(ShardError):
    """The bytes of a clip (its position in the split) are not those that were packed."""

    def __init__(self, message: str, clip: int) -> None:
        super().__init__(message)
        self.clip = clip


class RawFrame:
    """A frame stored as pixels, checked when they are used: memory is read once for both."""

    def __init__(self, pixels: Bytes, crc: int) -> None:
        self._pixels, self._crc = pixels, crc

    def pixels(self) -> Bytes:
        """All of it, [H, W, C]; ValueError if its CRC does not match."""
        if crc32c(self._pixels.data) != self._crc:
            raise ValueError(CRC_MISMATCH)
        return self._pixels


# What is stored of a frame: the bytes of its JPEG [n], checked; or its pixels.
EncodedFrame: TypeAlias = "Bytes | RawFrame"


def crop_raw(encoded: EncodedFrame, view: View) -> Bytes:
    """The window of a raw frame, [side, side, C]; ValueError if the frame's CRC does not match."""
    assert isinstance(encoded, RawFrame)
    return view.window(encoded.pixels())


class ClipReader:
    """Reads clips of a split through maps of its shards."""

    def __init__(self, split: Split, streams: Sequence[str]) -> None:
        self.table = split.table
        missing = [stream for stream in streams if stream not in split.streams]
        if missing:
            raise ShardError(f"{split.dir}: holds {' and '.join(split.streams)}, not {missing[0]}; pack that, too")
        self.columns = {stream: split.columns[stream] for stream in streams}
        self._planes, self._channels = planes_of(split.index.streams), channels_of(split.index.streams)
        self._paths = split.shard_paths
        self._shard_bytes = [shard.bytes for shard in split.index.shards]
        self._is_raw = split.codec == "raw"
        self._maps: dict[int, _Map] = {}

    def read_ahead(self, clip: int, frames: NDArray[np.int64]) -> None:
        """Have the kernel fetch the bytes of `frames` in the background, before they are read."""
        shard = self._map(int(self.table.record_shard[clip]))
        for begin, end in self._spans(clip, frames):
            shard.mapped.madvise(mmap.MADV_WILLNEED, begin, end - begin)

    def read(self, clip: int, frames: NDArray[np.int64]) -> dict[str, list[Sequence[EncodedFrame]]]:
        """The stored `frames` (positions in the clip): for "rgb" one list, for "flow" u's and v's.

        Raises:
            CorruptClipError: a CRC does not match, or the disk does not give the bytes. A record that is read whole is
                checked by its own CRC and one frame's, a part of one by the CRCs of its frames, so that no byte is read
                only to be checked. Raw frames are large: each is checked by its own CRC, when its pixels are used.
        """
        shard = self._map(int(self.table.record_shard[clip]))
        data, rows = shard.data, self.table.first_frame[clip] + frames
        is_whole = self._reads_whole_record(clip, frames)
        self._fetch(clip, shard, [self._record(clip)] if is_whole else self._spans(clip, frames))
        if is_whole and not self._is_raw:
            self._check_record(clip, data)
            if self.table.record_crc is None:  # version 1: a sound record may be of another packing, copied over this
                self._check_frames(clip, data, rows[:1])
        elif not self._is_raw:
            self._check_frames(clip, data, np.unique(rows))
        return {
            stream: [self._encoded(clip, data, rows, column) for column in columns]
            for stream, columns in self.columns.items()
        }

    def _spans(self, clip: int, frames: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Byte ranges that hold the frames' files, from page borders on; close ones as one."""
        rows = self.table.first_frame[clip] + np.unique(frames)
        begins = np.sort(self.table.offset[rows][:, self._all_columns], axis=None)
        ends = np.sort((self.table.offset[rows] + self.table.size[rows])[:, self._all_columns], axis=None)
        cuts = np.flatnonzero(begins[1:] - ends[:-1] > _READAHEAD)
        firsts = begins[np.concatenate([[0], cuts + 1])] // mmap.PAGESIZE * mmap.PAGESIZE
        return list(zip(firsts.tolist(), ends[np.append(cuts, -1)].tolist(), strict=True))

    def _record(self, clip: int) -> tuple[int, int]:
        """The byte range of a clip's record, from a page border on."""
        begin = int(self.table.record_offset[clip])
        return begin // mmap.PAGESIZE * mmap.PAGESIZE, begin + int(self.table.record_size[clip])

    def _fetch(self, clip: int, shard: "_Map", spans: Sequence[tuple[int, int]]) -> None:
        """Bring pages in: to touch one that a failing disk or a file cut short does not give would kill the process."""
        for begin, end in spans:
            try:
                shard.mapped.madvise(_POPULATE_READ, begin, end - begin)
            except OSError as error:
                if error.errno == errno.EINVAL:  # an older kernel, or another one
                    return
                raise self._corrupt(clip, "its part of the file", "it cannot be read") from None

    def _encoded(self, clip: int, data: Bytes, rows: NDArray[np.int64], column: int) -> Sequence[EncodedFrame]:
        files = self._files(data, rows, column)
        if not self._is_raw:
            return files
        shape = int(self.table.height[clip]), int(self.table.width[clip]), self._channels[column]
        crcs = self.table.crc[rows, column].tolist()
        return [RawFrame(file.reshape(shape), crc) for file, crc in zip(files, crcs, strict=True)]

    def _files(self, data: Bytes, rows: NDArray[np.int64], column: int) -> list[Bytes]:
        begins = self.table.offset[rows, column]
        ends = begins + self.table.size[rows, column]
        return [data[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]

    def _reads_whole_record(self, clip: int, frames: NDArray[np.int64]) -> bool:
        num_stored = self.table.first_frame[clip + 1] - self.table.first_frame[clip]
        has_all_planes = len(self._all_columns) == len(self._planes)
        return has_all_planes and len(frames) >= num_stored and len(set(frames)) == num_stored

    def _check_record(self, clip: int, data: Bytes) -> None:
        begin, crcs = int(self.table.record_offset[clip]), self.table.record_crc
        record = data[begin : begin + int(self.table.record_size[clip])].data
        try:
            record_payload(record)
            if crcs is not None and stored_crc(record) != crcs[clip]:
                raise ValueError("it is whole, but another packing's")
        except ValueError as error:
            raise self._corrupt(clip, "its record", error) from None

    def _check_frames(self, clip: int, data: Bytes, rows: NDArray[np.int64]) -> None:
        for column in self._all_columns:
            stored = self.table.crc[rows, column].tolist()
            for row, view, crc in zip(rows.tolist(), self._files(data, rows, column), stored, strict=True):
                if crc32c(view.data) != crc:
                    raise self.corrupt_frame(clip, row - int(self.table.first_frame[clip]), column)

    @cached_property
    def _all_columns(self) -> list[int]:
        return [column for columns in self.columns.values() for column in columns]

    def corrupt_frame(self, clip: int, frame: int, column: int, why: object = CRC_MISMATCH) -> CorruptClipError:
        """The error of one frame (its position in the clip) that is not as it was packed."""
        return self._corrupt(clip, f"{self._planes[column]}/{frame:03d}", why)

    def broken_frame(self, clip: int, frame: int, column: int, why: object) -> ShardError:
        """The error of one frame that is as it was packed, and does not decode."""
        return ShardError(
            f"{self._paths[int(self.table.record_shard[clip])]}: {self._planes[column]}/{frame:03d} of clip "
            f"{self.table.clip_id[clip].decode()} does not decode: {why}; python preprocess/pack.py -c ... --verify "
            "lists all such files"
        )

    def _corrupt(self, clip: int, what: str, why: object) -> CorruptClipError:
        path, offset = self._paths[int(self.table.record_shard[clip])], int(self.table.record_offset[clip])
        return CorruptClipError(
            f"{path}: clip {self.table.clip_id[clip].decode()} at byte {offset}: {what} is damaged: {why}; "
            f"copy the file again, or remove {path.parent} and pack it anew",
            clip,
        )

    def _map(self, shard: int) -> "_Map":
        if shard not in self._maps:
            self._maps[shard] = _Map.of(self._paths[shard], self._shard_bytes[shard])
        return self._maps[shard]


@dataclass(frozen=True)
class _Map:
    """A shard in memory: the mapping, and its bytes as an array."""

    mapped: mmap.mmap
    data: Bytes

    @classmethod
    def of(cls, path: Path, num_bytes: int) -> "_Map":
        """Map a shard that has to have `num_bytes`: it may have been cut short since the split was opened."""
        try:
            with open(path, "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ShardError(f"{path}: cannot map the shard: {error}") from None
        if len(mapped) < num_bytes:
            raise ShardError(
                f"{path}: has {len(mapped)} bytes, the index says {num_bytes}: it was cut short after the split was "
                f"opened; copy it again, or remove {path.parent} and pack it anew"
            )
        return cls(mapped, np.frombuffer(mapped, dtype=np.uint8))
