"""Fetcher: the views and bytes of a batch, from the sampler's plan to what decoders need."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.decoders.base import FrameError
from pipeline.format.index import ShardError
from pipeline.format.streams import STREAMS
from pipeline.reader import ClipReader, EncodedFrame, RawFrame
from pipeline.sampler import BatchPlan, BatchSampler
from pipeline.views import SINGLE_VIEW, MultiView, View, ViewOptions, draw_view

VERIFY = "python preprocess/pack.py -c ... --verify says which"


@dataclass(frozen=True)
class EncodedBatch:
    """A batch before decoding.

    Attributes:
        plan: which batch it is.
        views_of: by stream, how each of its B clips is seen.
        encoded: for "rgb" B * T frames, clip after clip; for "flow" B * T of u and then as many of v.
    """

    plan: BatchPlan
    views_of: dict[str, tuple[View, ...]]
    encoded: dict[str, list[EncodedFrame]]

    @property
    def views(self) -> tuple[View, ...]:
        """How the first stream sees the clips: all do, where they are synchronized."""
        return next(iter(self.views_of.values()))


class ClipFetcher:
    """Draws the views of a batch and reads its bytes."""

    def __init__(
        self, reader: ClipReader, options: ViewOptions, sampler: BatchSampler, multi_view: MultiView = SINGLE_VIEW
    ) -> None:
        self.reader = reader
        self._options = options
        self._multi_view = multi_view
        self._sampler = sampler

    def read_ahead(self, plans: Iterator[BatchPlan], ahead: int) -> Iterator[BatchPlan]:
        """The same plans; the bytes of each are asked for when it is `ahead` plans away."""
        waiting: deque[BatchPlan] = deque()
        for plan in plans:
            for view in self._draw(plan):
                self.reader.read_ahead(view.clip, view.frames)
            waiting.append(plan)
            if len(waiting) > ahead:
                yield waiting.popleft()

    def fetch(self, plan: BatchPlan) -> EncodedBatch:
        """Views and bytes of the plan's clips.

        Raises:
            CorruptClipError: a clip's bytes do not match their CRC.
        """
        views, order, apart = self._draw(plan), list(STREAMS), not self._options.synchronized
        views_of = {stream: self._draw(plan, order.index(stream)) if apart else views for stream in self.reader.columns}
        clips = [self.reader.read(view.clip, view.frames) for view in views]
        encoded = {
            stream: [
                frame
                for column in range(len(self.reader.columns[stream]))
                for frames in clips
                for frame in frames[stream][column]
            ]
            for stream in self.reader.columns
        }
        return EncodedBatch(plan, views_of, encoded)

    def explain(self, batch: EncodedBatch, stream: str, error: FrameError) -> ShardError:
        """What a decoder's error means: which frame of which clip, and the way out."""
        views, num_frames = batch.views, len(batch.views[0].frames)
        if error.index is None:
            ids = ", ".join(self.reader.table.clip_id[view.clip].decode() for view in views)
            return ShardError(f"DALI cannot decode one of the clips {ids}: {error}; {VERIFY}")
        plane, position = divmod(error.index, len(views) * num_frames)
        view = views[position // num_frames]
        frame, column = int(view.frames[position % num_frames]), self.reader.columns[stream][plane]
        if isinstance(batch.encoded[stream][error.index], RawFrame):  # which cannot fail but by its CRC
            return self.reader.corrupt_frame(view.clip, frame, column, error)
        return self.reader.broken_frame(view.clip, frame, column, error)

    def _draw(self, plan: BatchPlan, stream: int = 0) -> tuple[View, ...]:
        table = self.reader.table
        return tuple(
            draw_view(
                clip,
                self._options,
                num_stored=int(table.first_frame[clip + 1] - table.first_frame[clip]),
                height=int(table.height[clip]),
                width=int(table.width[clip]),
                seed=self._sampler.seed,
                epoch=plan.epoch,
                train=self._sampler.train,
                multi_view=self._multi_view,
                view_index=view_index,
                stream=stream,
            )
            for clip, view_index in zip(plan.clips.tolist(), plan.view_ids.tolist(), strict=True)
        )
