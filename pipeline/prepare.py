"""From a slot of the schedule to what the decoders need: each clip's view and bytes."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

from pipeline.reader import COLUMNS, ClipReader, CorruptClipError, Stored
from pipeline.sampler import ONE_LOOK, Looks, Slot, View, ViewOptions, draw_view
from pipeline.schedule import Schedule


@dataclass(frozen=True)
class Prepared:
    """A batch before decoding.

    Attributes:
        slot: which batch it is.
        views: how each of its B clips is seen.
        stored: for "rgb" B * T pictures, clip after clip; for "flow" B * T of u and then as many of v.
        replaced: ids of the corrupt clips that others stand in for.
    """

    slot: Slot
    views: tuple[View, ...]
    stored: dict[str, list[Stored]]
    replaced: list[str]


class Preparer:
    """Draws views and reads bytes; with `replace_corrupt`, the next clip of the order stands in for a corrupt one."""

    def __init__(
        self,
        reader: ClipReader,
        options: ViewOptions,
        schedule: Schedule,
        *,
        replace_corrupt: bool,
        looks: Looks = ONE_LOOK,
    ) -> None:
        self.reader = reader
        self._options = options
        self._looks = looks
        self._schedule = schedule
        self._replace_corrupt = replace_corrupt
        self._announced_views: dict[tuple[int, int, int], View] = {}  # by epoch, clip and look, until they are read
        self._corrupt: dict[int, CorruptClipError] = {}  # found after they were read

    def announced(self, slots: Iterator[Slot], ahead: int) -> Iterator[Slot]:
        """The same slots; the bytes of each are asked for when it is `ahead` slots away, and read when it comes."""
        waiting: deque[Slot] = deque()
        self._announced_views.clear()
        for slot in slots:
            for key in zip(repeat(slot.epoch), slot.clips.tolist(), slot.looks.tolist()):
                view = self._announced_views[key] = self._draw(*key)
                self.reader.announce(view.clip, view.frames)
            waiting.append(slot)
            if len(waiting) > ahead:
                yield waiting.popleft()

    def prepare(self, slot: Slot) -> Prepared:
        """Views and bytes of the slot's clips.

        Raises:
            CorruptClipError: a clip's bytes do not match their CRC, and nothing may stand in for it.
        """
        replaced: list[str] = []
        clips = [self._read(slot, position, replaced) for position in range(len(slot.clips))]
        stored = {
            stream: [
                picture
                for column in range(len(COLUMNS[stream]))
                for _, pictures in clips
                for picture in pictures[stream][column]
            ]
            for stream in self.reader.columns
        }
        return Prepared(slot, tuple(view for view, _ in clips), stored, replaced)

    def may_replace(self, error: CorruptClipError) -> bool:
        """Whether prepare() gives another clip from now on for one that was found corrupt after it had been read."""
        is_new = error.clip not in self._corrupt
        self._corrupt[error.clip] = error
        return self._replace_corrupt and is_new

    def _read(self, slot: Slot, position: int, replaced: list[str]) -> tuple[View, dict[str, list[Sequence[Stored]]]]:
        """The clip at `position` of the slot, or the first after it in the epoch's order that is not corrupt."""
        clip, look = int(slot.clips[position]), int(slot.looks[position])
        for attempt in range(1, self._schedule.num_clips + 1):
            key = (slot.epoch, clip, look)
            view = self._announced_views.pop(key, None) or self._draw(*key)
            try:
                if clip in self._corrupt:
                    raise self._corrupt[clip]
                return view, self.reader.read(clip, view.frames)
            except CorruptClipError:
                if not self._replace_corrupt or attempt == self._schedule.num_clips:
                    raise
            replaced.append(self.reader.table.clip_id[clip].decode())
            order = self._schedule.order(slot.epoch)
            clip = int(order[(slot.start + position + attempt) % len(order)])
        raise AssertionError("a split has clips")

    def _draw(self, epoch: int, clip: int, look: int) -> View:
        table = self.reader.table
        return draw_view(
            clip,
            self._options,
            num_stored=int(table.first_frame[clip + 1] - table.first_frame[clip]),
            height=int(table.height[clip]),
            width=int(table.width[clip]),
            seed=self._schedule.seed,
            epoch=epoch,
            train=self._schedule.train,
            looks=self._looks,
            look=look,
        )
