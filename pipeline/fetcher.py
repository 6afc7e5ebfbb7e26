"""From a slot of the schedule to what the decoders need: each clip's view and bytes."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.batch_sampler import Schedule
from pipeline.decoders.base import FrameError
from pipeline.format.index import ShardError
from pipeline.format.streams import STREAMS
from pipeline.reader import ClipReader, RawFrame, Stored
from pipeline.sampler import ONE_LOOK, Looks, Slot, View, ViewOptions, draw_view

VERIFY = "python preprocess/pack.py -c ... --verify says which"


@dataclass(frozen=True)
class Prepared:
    """A batch before decoding.

    Attributes:
        slot: which batch it is.
        views_of: by stream, how each of its B clips is seen.
        stored: for "rgb" B * T pictures, clip after clip; for "flow" B * T of u and then as many of v.
    """

    slot: Slot
    views_of: dict[str, tuple[View, ...]]
    stored: dict[str, list[Stored]]

    @property
    def views(self) -> tuple[View, ...]:
        """How the first stream sees the clips: all do, where they are synchronized."""
        return next(iter(self.views_of.values()))


class Preparer:
    """Draws views and reads bytes."""

    def __init__(self, reader: ClipReader, options: ViewOptions, schedule: Schedule, looks: Looks = ONE_LOOK) -> None:
        self.reader = reader
        self._options = options
        self._looks = looks
        self._schedule = schedule

    def announced(self, slots: Iterator[Slot], ahead: int) -> Iterator[Slot]:
        """The same slots; the bytes of each are asked for when it is `ahead` slots away, and read when it comes."""
        waiting: deque[Slot] = deque()
        for slot in slots:
            for view in self._draw(slot):
                self.reader.announce(view.clip, view.frames)
            waiting.append(slot)
            if len(waiting) > ahead:
                yield waiting.popleft()

    def prepare(self, slot: Slot) -> Prepared:
        """Views and bytes of the slot's clips.

        Raises:
            CorruptClipError: a clip's bytes do not match their CRC.
        """
        views, order, apart = self._draw(slot), list(STREAMS), not self._options.synchronized
        views_of = {stream: self._draw(slot, order.index(stream)) if apart else views for stream in self.reader.columns}
        clips = [self.reader.read(view.clip, view.frames) for view in views]
        stored = {
            stream: [
                picture
                for column in range(len(self.reader.columns[stream]))
                for pictures in clips
                for picture in pictures[stream][column]
            ]
            for stream in self.reader.columns
        }
        return Prepared(slot, views_of, stored)

    def explain(self, prepared: Prepared, stream: str, error: FrameError) -> ShardError:
        """What a decoder's error means: which frame of which clip, and the way out."""
        views, num_frames = prepared.views, len(prepared.views[0].frames)
        if error.index is None:
            ids = ", ".join(self.reader.table.clip_id[view.clip].decode() for view in views)
            return ShardError(f"DALI cannot decode one of the clips {ids}: {error}; {VERIFY}")
        plane, position = divmod(error.index, len(views) * num_frames)
        view = views[position // num_frames]
        frame, column = int(view.frames[position % num_frames]), self.reader.columns[stream][plane]
        if isinstance(prepared.stored[stream][error.index], RawFrame):  # which cannot fail but by its CRC
            return self.reader.corrupt_frame(view.clip, frame, column, error)
        return self.reader.broken_frame(view.clip, frame, column, error)

    def _draw(self, slot: Slot, stream: int = 0) -> tuple[View, ...]:
        table = self.reader.table
        return tuple(
            draw_view(
                clip,
                self._options,
                num_stored=int(table.first_frame[clip + 1] - table.first_frame[clip]),
                height=int(table.height[clip]),
                width=int(table.width[clip]),
                seed=self._schedule.seed,
                epoch=slot.epoch,
                train=self._schedule.train,
                looks=self._looks,
                look=look,
                stream=stream,
            )
            for clip, look in zip(slot.clips.tolist(), slot.looks.tolist(), strict=True)
        )
