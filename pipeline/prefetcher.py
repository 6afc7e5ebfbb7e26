"""Prefetcher: batches are read and decoded ahead of their use, and handed out in the sampler's order."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from pipeline.decoders.base import Decoder, FrameError
from pipeline.fetcher import ClipFetcher, EncodedBatch
from pipeline.format.index import ShardError
from pipeline.reader import CorruptClipError
from pipeline.sampler import BatchPlan, BatchSampler


class Prefetcher:
    """Keeps `ahead` batches in flight beside the one that is asked for.

    Args:
        fetcher: reads what a batch needs.
        decoders: by stream, opened for as many batches ahead.
        sampler: says what comes next, and passes over clips that turn out to be corrupt.
        ahead: batches.
        skips_corrupt: whether others stand in for corrupt clips.
    """

    def __init__(
        self,
        fetcher: ClipFetcher,
        decoders: dict[str, Decoder],
        sampler: BatchSampler,
        ahead: int,
        skips_corrupt: bool,
    ) -> None:
        self._fetcher, self._decoders, self._sampler = fetcher, decoders, sampler
        self._num_ahead, self._skips_corrupt = ahead, skips_corrupt
        self._in_flight: deque[EncodedBatch] = deque()
        self._to_come: Iterator[BatchPlan] = iter(())

    def take(self, wanted: BatchPlan) -> tuple[EncodedBatch, dict[str, Tensor]]:
        """The batch of `wanted`, and its streams decoded; made again, with what comes after it, without corrupt clips.

        Raises:
            ShardError: a clip is corrupt, and no other may stand in for it, or none is left.
        """
        while True:
            try:
                return self._take(wanted)
            except CorruptClipError:
                most = max(map(len, self._sampler.corrupt.values()), default=0)
                if not self._skips_corrupt or most == self._sampler.num_clips:
                    raise
                self._discard_all()

    def make_alone(self, plan: BatchPlan) -> tuple[EncodedBatch, dict[str, Tensor]]:
        """The same for a batch of no epoch; what was in flight is let go of."""
        self._discard_all()
        encoded = self._prepare(plan)
        for _ in range(self._num_ahead):
            self._send(encoded)
        made = self._receive()
        self._discard_all()
        return made

    def close(self) -> None:
        """Free the decoders and their threads."""
        for decoder in self._decoders.values():
            decoder.close()
        self._decoders.clear()
        self._in_flight.clear()

    def _take(self, wanted: BatchPlan) -> tuple[EncodedBatch, dict[str, Tensor]]:
        """The batch of `wanted`: the next in flight, unless an epoch was left in the middle or a state was loaded."""
        while self._in_flight and self._in_flight[0].plan != wanted:
            self._discard()
        if not self._in_flight:
            self._to_come = self._fetcher.read_ahead(self._sampler.batches_from(wanted), self._num_ahead)
            for encoded in [self._prepare(next(self._to_come)) for _ in range(self._num_ahead)]:
                self._send(encoded)  # all or none of them, as DALI's first run takes them together
        taken = self._receive()
        self._send(self._prepare(next(self._to_come)))
        return taken

    @contextmanager
    def _passing_over_corrupt(self, plan: BatchPlan) -> Iterator[None]:
        """Have the sampler pass over a clip of `plan` that turns out to be corrupt: the one road of all of them.

        What is corrupt is what this epoch shows of the clip: another epoch may show frames of it that are sound. So it
        does not matter when, or by which rank, the damage was first met.
        """
        try:
            yield
        except CorruptClipError as error:
            if self._skips_corrupt:
                self._sampler.corrupt.setdefault(plan.epoch, set()).add(error.clip)
            raise

    def _prepare(self, plan: BatchPlan) -> EncodedBatch:
        with self._passing_over_corrupt(plan):
            return self._fetcher.fetch(plan)

    def _send(self, batch: EncodedBatch) -> None:
        self._in_flight.append(batch)
        for stream, decoder in self._decoders.items():
            decoder.send(batch.encoded[stream], batch.views_of[stream])

    def _receive(self) -> tuple[EncodedBatch, dict[str, Tensor]]:
        batch = self._in_flight.popleft()
        streams: dict[str, Tensor] = {}
        failure: ShardError | None = None
        for stream, decoder in self._decoders.items():  # each hands out its part, or they would be out of step
            try:
                streams[stream] = decoder.receive()
            except FrameError as error:
                failure = self._fetcher.explain(batch, stream, error)
        if failure is not None:
            with self._passing_over_corrupt(batch.plan):
                raise failure
        return batch, streams

    def _discard_all(self) -> None:
        while self._in_flight:
            self._discard()

    def _discard(self) -> None:
        batch = self._in_flight.popleft()
        for stream, decoder in self._decoders.items():
            try:
                decoder.discard()
            except FrameError as error:
                raise self._fetcher.explain(batch, stream, error) from None
