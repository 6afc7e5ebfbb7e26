"""The loader: batches of clip pairs, epoch after epoch, from sampler, fetcher and decoders."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from configs.schema import Config
from pipeline.batch import Batch, move
from pipeline.decoders.base import StreamSpec
from pipeline.decoders.open import decoding_device, open_decoders
from pipeline.fetcher import ClipFetcher, EncodedBatch
from pipeline.format.index import check_packed
from pipeline.format.split import open_split
from pipeline.options import LoaderOptions
from pipeline.prefetcher import Prefetcher
from pipeline.reader import ClipReader
from pipeline.sampler import BatchPlan, BatchSampler
from pipeline.views import MultiView, ViewOptions


class ClipLoader:
    """Iterates over a packed split; one iter() is one epoch, the next iter() is the next epoch.

    Order, crop, mirror and time jitter of a clip depend on (seed, epoch, clip) alone. In training (`train=True`) an
    epoch is a new permutation of the split in full batches; else it is every clip once, in file order, centre crop,
    the last batch short. Ranks share an epoch without overlap.

    Args:
        split_dir: a folder that preprocess/pack.py has finished.
        batch_size, num_frames, crop_size, options: see LoaderOptions, which names all keywords.

    Attributes:
        options: what was asked for.
        clip_ids: the narration ids of the whole split; batch.clips are positions in it.
        targets: by name, int64 [N], the clips' classes; -1 where unknown.
        labels: int64 [N], those of the first target.
        classes: by target, the names of its classes; None where the annotations had none.
        multi_view: the views of each clip in evaluation.
        packed_with: the options that the split was packed with, as its index has them.
        checksum: the number that tells this packed split from all others.
        skipped: ids of the clips that on_corrupt="skip" has replaced, one entry each time.
        sampler, fetcher, decoders, prefetch: the parts that a batch goes through, for those who measure them.

    Raises:
        UserError: an option is wrong; the split is missing, damaged, smaller than a step, or `device` cannot be had.
        ValueError: `clips` are none, or not all in the split.
    """

    def __init__(
        self, split_dir: str | Path, batch_size: int = 8, num_frames: int = 16, crop_size: int = 224, **options: Any
    ) -> None:
        sizes = {"batch_size": batch_size, "num_frames": num_frames, "crop_size": crop_size}
        given = self.options = LoaderOptions.of(sizes | options)
        split = open_split(split_dir, given.name)
        self.split_dir = Path(split_dir)
        self.table = split.table
        self.packed_with: dict[str, Any] = split.index.options.model_dump()
        self.checksum = split.index.checksum
        self.clip_ids = [clip_id.decode() for clip_id in split.table.clip_id.tolist()]
        self.targets, self.classes, self.labels = split.targets, split.classes, split.labels
        self.source = split.source  # how frames and flow were made, where that is on record
        self.device = decoding_device(given.device)
        self.multi_view = MultiView(given.views, given.crops)
        self.skipped: list[str] = []
        self.sampler = _sampler(given, self.labels, self.multi_view)
        self._check_size()
        views = ViewOptions(**{field.name: getattr(given, field.name) for field in fields(ViewOptions)})
        self._identity = _identity(self.checksum, self.sampler, views, self.multi_view)
        self.fetcher = ClipFetcher(ClipReader(split, given.streams), views, self.sampler, self.multi_view)
        self._process, self._lock, self._is_closed = os.getpid(), threading.Lock(), False
        height, width = split.table.height, split.table.width
        resize = given.scale != (1.0, 1.0) or int(min(height.min(), width.min())) < given.crop_size
        specs = {
            stream: StreamSpec.of(stream, given, int(height.max()), int(width.max()), resize=resize, codec=split.codec)
            for stream in given.streams
        }
        self.prefetch = given.prefetch
        self.decoders = open_decoders(specs, self.device, given.num_threads, given.prefetch, given.decoder)
        skips = given.train and given.on_corrupt == "skip"
        self._prefetcher = Prefetcher(self.fetcher, self.decoders, self.sampler, given.prefetch, skips)

    @classmethod
    def from_config(cls, config: Config, split: str, **changes: Any) -> "ClipLoader":
        """The loader of a split as a config describes it, for one rank unless `changes` say otherwise."""
        options = {"name": split, "seed": config.seed, **dict(config.loader), **dict(config.clip), **changes}
        check_packed(config.data.shards / split, config.pack_command)
        return cls(config.data.shards / split, **options)

    def __len__(self) -> int:
        """Batches of a whole epoch on this rank."""
        return sum(1 for _ in self.sampler.batches(self.epoch, 0))

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch, or what is left of the one that load_state_dict() put us in.

        Raises:
            UserError: a clip is corrupt; the loader is closed, or used by two threads or in a forked process; or this
                epoch was left, by a later iter() or load_state_dict().
        """
        for plan in iter(self.sampler):
            with self._used_by_one():
                batch, streams = self._prefetcher.take(plan)
            self.skipped += [self.clip_ids[clip] for clip in batch.plan.replaced.tolist()]
            yield self._batch_of(batch, streams)

    def __enter__(self) -> "ClipLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def epoch(self) -> int:
        """The epoch that we are in, or that comes next."""
        return self.sampler.epoch

    def close(self) -> None:
        """Free the decoders and their threads; the loader cannot be used afterwards."""
        self._is_closed = True
        if os.getpid() != self._process:  # nothing of it lives here, and waiting for its threads would never end
            return
        with self._lock:
            self._prefetcher.close()

    def state_dict(self) -> dict[str, Any]:
        """Where we are, counting the batches that were handed out; plain numbers and strings."""
        return {"epoch": self.epoch, "position": self.sampler.position, "identity": self._identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at `state`: the next iter() yields what is left of its epoch, on any number of ranks.

        Raises:
            UserError: the state is of another split, seed or view, for which its position means nothing.
        """
        saved, ours = state["identity"], self._identity
        if saved != ours:
            different = "; ".join(
                f"{key} was {saved.get(key)!r}, is {ours.get(key)!r}"
                for key in {**ours, **saved}
                if saved.get(key) != ours.get(key)
            )
            raise UserError(f"{self.split_dir}: the saved position is that of another loader: {different}")
        self.sampler.seek(state["epoch"], state["position"])

    def load(self, clips: Sequence[int], epoch: int) -> Batch:
        """The given clips (positions in clip_ids) as `epoch` shows them; the order of epochs is not touched.

        Raises:
            UserError: as iterating does.
        """
        none = np.zeros(0, np.int64)
        plan = BatchPlan(epoch, 0, 0, clips=np.asarray(clips), view_ids=np.zeros(len(clips), np.int64), replaced=none)
        with self._used_by_one():
            return self._batch_of(*self._prefetcher.make_alone(plan))

    @contextmanager
    def _used_by_one(self) -> Iterator[None]:
        """Refuse a use of the decoders that would hang, crash or give nothing."""
        if os.getpid() != self._process:
            raise UserError(
                f"{self.split_dir}: this ClipLoader was opened by process {self._process}, and its threads did not "
                f"come along into the forked process {os.getpid()}; open one in each process, once it runs"
            )
        if not self._lock.acquire(blocking=False):
            raise UserError(
                f"{self.split_dir}: two threads ask this ClipLoader for batches at once; let one of them ask and hand "
                "the batches on, or open one for each"
            )
        try:
            if self._is_closed:
                raise UserError(f"{self.split_dir}: this ClipLoader is closed; open another one")
            yield
        finally:
            self._lock.release()

    def _check_size(self) -> None:
        sampler = self.sampler
        step = sampler.batch_size * sampler.world_size
        if sampler.train and sampler.num_clips < step:
            raise UserError(
                f"{self.split_dir}: {sampler.num_clips} clips do not fill one step of {step} "
                f"({sampler.batch_size} on each of {sampler.world_size} ranks); lower loader.batch_size"
            )

    def _batch_of(self, batch: EncodedBatch, streams: dict[str, Tensor]) -> Batch:
        clips = np.array([view.clip for view in batch.views])
        return Batch(
            rgb=streams.get("rgb"),
            flow=streams.get("flow"),
            labels=self._of(clips, self.labels),
            clips=move(torch.from_numpy(clips), self.device),
            view_ids=move(torch.tensor([view.view_index for view in batch.views]), self.device),
            views=batch.views,
            targets={name: self._of(clips, classes) for name, classes in self.targets.items()},
        )

    def _of(self, clips: NDArray[np.int64], numbers: NDArray[np.int64]) -> Tensor:
        return move(torch.from_numpy(numbers[clips]), self.device)


def _sampler(options: LoaderOptions, labels: NDArray[np.int64], multi_view: MultiView) -> BatchSampler:
    chosen = None if options.clips is None else _chosen(options.clips, len(labels))
    labels = labels if chosen is None else labels[chosen]
    return BatchSampler(
        len(labels),
        options.batch_size,
        options.rank,
        options.world_size,
        options.seed,
        options.train,
        chosen,
        per_clip=multi_view.per_clip,
        labels=labels,
        balance=options.balance,
    )


def _identity(split: int, sampler: BatchSampler, options: ViewOptions, multi_view: MultiView) -> dict[str, Any]:
    """What the order of clips and their views follow from, beside epoch and position; plain numbers and strings."""
    views = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(options).items()}
    if options.synchronized:
        del views["synchronized"]  # as it was before there was a choice
    identity = {"split": split, "seed": sampler.seed, "train": sampler.train, **views}
    if sampler.balance:
        identity["balance"] = sampler.balance
    if sampler.chosen is not None:
        identity["clips"] = sampler.chosen.tolist()
    return identity if multi_view.per_clip == 1 else {**identity, **asdict(multi_view)}


def _chosen(clips: Sequence[int], num_clips: int) -> NDArray[np.int64]:
    """`clips` in the split's order, each once."""
    chosen = np.unique(np.asarray(clips, dtype=np.int64))
    if not len(chosen) or chosen[0] < 0 or chosen[-1] >= num_clips:
        raise ValueError(f"clips: found {len(chosen)} positions, allowed: at least one, each from 0 to {num_clips - 1}")
    return chosen
