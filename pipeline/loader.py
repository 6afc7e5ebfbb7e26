"""Batches of clip pairs, epoch after epoch: schedule, reader and DALI graphs put together."""

import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.errors import UserError
from configs.schema import Config
from pipeline.batch import Batch
from pipeline.decoder import GraphOptions, open_decoders
from pipeline.format import check_packed, open_split
from pipeline.prepare import Prepared, Preparer
from pipeline.reader import COLUMNS, ClipReader, CorruptClipError
from pipeline.sampler import Looks, Slot, View, ViewOptions
from pipeline.schedule import Schedule


class ClipLoader:
    """Iterates over a packed split; one iter() is one epoch, the next iter() is the next epoch.

    Order, crop, mirror and time jitter of a clip depend on (seed, epoch, clip) alone. In training (`train=True`) an
    epoch is a new permutation of the split in full batches; else it is every clip once, in file order, centre crop,
    the last batch short. Ranks share an epoch without overlap.

    Args:
        split_dir: a folder that preprocess/pack.py has finished.
        batch_size: clips a batch of this rank; a step of all ranks takes batch_size * world_size.
        num_frames: T; the stored frames of a clip are sampled evenly, or jittered (`temporal`).
        crop_size: H = W, pixels.
        device: "cpu", "cuda", "cuda:N", or "auto" for a GPU where there is one: where frames are decoded.
        num_threads: decoding threads, shared out between the streams (at least one each).
        streams: which streams are decoded; the other one is None in the batches and its bytes are not read.
        temporal, mirror, scale, color: see ViewOptions.
        rescale_flow: where a window is resized, scale the flow's values with it.
        prefetch: batches decoded ahead.
        on_corrupt: "error", or "skip": train on the next clip of the order instead (never in evaluation).
        clips: positions in the split: epochs are made of these clips alone, as if there were no others; a clip is
            seen as in an epoch of all. None: the whole split.
        views, crops: in evaluation, how many times each clip is looked at: see Looks. A batch then holds batch_size
            looks, `batch.looks` says which, and those at a clip follow one another.

    Attributes:
        clip_ids: the narration ids of the whole split; batch.clips are positions in it.
        labels: int64 [N], their classes.
        looks: the views and crops.
        packed_with: the options that the split was packed with, as its index has them.
        skipped: ids of the clips that on_corrupt="skip" has replaced, one entry a time.
        schedule, preparer, decoders, prefetch: the parts that a batch goes through, for those who measure them.

    Raises:
        UserError: the split is missing, damaged, smaller than a step, or `device` cannot be had.
        ValueError: `clips` are none, or not all in the split.
    """

    def __init__(
        self,
        split_dir: str | Path,
        batch_size: int = 8,
        num_frames: int = 16,
        crop_size: int = 224,
        train: bool = True,
        seed: int = 0,
        device: str = "cpu",
        num_threads: int = 2,
        rank: int = 0,
        world_size: int = 1,
        *,
        streams: Sequence[str] = ("rgb", "flow"),
        temporal: Literal["uniform", "jitter"] = "uniform",
        mirror: float = 0.5,
        scale: tuple[float, float] = (1.0, 1.0),
        color: float = 0.0,
        rescale_flow: bool = False,
        prefetch: int = 2,
        on_corrupt: Literal["error", "skip"] = "error",
        clips: Sequence[int] | None = None,
        views: int = 1,
        crops: int = 1,
    ) -> None:
        _check_arguments(locals())
        split = open_split(split_dir)
        self.split_dir = Path(split_dir)
        self.table = split.table
        self.packed_with: dict[str, Any] = split.index.get("options", {})
        self.clip_ids = [clip_id.decode() for clip_id in split.table.clip_id.tolist()]
        self.labels = split.table.label
        self.device = _torch_device(device)
        self.options = ViewOptions(num_frames, crop_size, temporal, mirror, (scale[0], scale[1]), color)
        self.looks = Looks(views, crops)
        self.skipped: list[str] = []
        chosen = None if clips is None else _chosen(clips, len(self.clip_ids))
        num_clips = len(self.clip_ids) if chosen is None else len(chosen)
        per_clip = self.looks.per_clip
        self.schedule = Schedule(num_clips, batch_size, rank, world_size, seed, train, chosen, per_clip=per_clip)
        self._check_size()
        self._identity = _identity(split.index["checksum"], self.schedule, self.options, self.looks)
        self.preparer = Preparer(ClipReader(split, streams), self.options, self.schedule, self.looks)
        self._skips_corrupt = train and on_corrupt == "skip"
        self.prefetch = prefetch
        self._process, self._lock, self._is_closed = os.getpid(), threading.Lock(), False
        self._in_flight: deque[Prepared] = deque()
        self._ahead: Iterator[Slot] = iter(())
        graphs = self._graphs(streams, split.codec, rescale_flow)
        self.decoders = open_decoders(graphs, self.device, num_threads, prefetch)

    @classmethod
    def from_config(cls, config: Config, split: str, **changes: Any) -> "ClipLoader":
        """The loader of a split as a config describes it, for one rank unless `changes` say otherwise."""
        options = {
            "batch_size": config.loader.batch_size,
            "seed": config.seed,
            "device": config.loader.device,
            "num_threads": config.loader.num_threads,
            "prefetch": config.loader.prefetch,
            "on_corrupt": config.loader.on_corrupt,
            **dict(config.clip),
        }
        check_packed(config.data.shards / split, config.pack_command)
        return cls(config.data.shards / split, **(options | changes))

    def __len__(self) -> int:
        """Batches of a whole epoch on this rank."""
        return sum(1 for _ in self.schedule.slots(self.epoch, 0))

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch, or what is left of the one that load_state_dict() put us in.

        Raises:
            UserError: a clip is corrupt; the loader is closed, or used by two threads or in a forked process; or this
                epoch was left, by a later iter() or load_state_dict().
        """
        for slot in self.schedule.run_epoch():
            yield self._next_batch(slot)

    def __enter__(self) -> "ClipLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def epoch(self) -> int:
        """The epoch that we are in, or that comes next."""
        return self.schedule.epoch

    def close(self) -> None:
        """Free the decoders and their threads; the loader cannot be used afterwards."""
        self._is_closed = True
        if os.getpid() != self._process:  # nothing of it lives here, and waiting for its threads would never end
            return
        with self._lock:
            for decoder in self.decoders.values():
                decoder.close()
            self.decoders.clear()
            self._in_flight.clear()

    def state_dict(self) -> dict[str, Any]:
        """Where we are, counting the batches that were handed out; plain numbers and strings."""
        return {"epoch": self.epoch, "position": self.schedule.position, "identity": self._identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at `state`: the next iter() yields what is left of its epoch, on any number of ranks.

        Raises:
            UserError: the state is of another split, seed or view, for which its position means nothing.
        """
        saved, ours = state["identity"], self._identity
        if saved != ours:
            different = "; ".join(
                f"{key} was {saved.get(key)!r}, is {ours[key]!r}" for key in ours if saved.get(key) != ours[key]
            )
            raise UserError(f"{self.split_dir}: the saved position is that of another loader: {different}")
        self.schedule.move(state["epoch"], state["position"])

    def load(self, clips: Sequence[int], epoch: int) -> Batch:
        """The given clips (positions in clip_ids) as `epoch` shows them; the order of epochs is not touched.

        Raises:
            UserError: as iterating does.
        """
        none = np.zeros(0, np.int64)
        slot = Slot(epoch, 0, 0, clips=np.asarray(clips), looks=np.zeros(len(clips), np.int64), replaced=none)
        with self._used_by_one():
            self._discard_all()
            prepared = self._prepare(slot)
            for _ in range(self.prefetch):
                self._send(prepared)
            batch = self._receive()
            self._discard_all()
            return batch

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
        schedule = self.schedule
        step = schedule.batch_size * schedule.world_size
        if schedule.train and schedule.num_clips < step:
            raise UserError(
                f"{self.split_dir}: {schedule.num_clips} clips do not fill one step of {step} "
                f"({schedule.batch_size} on each of {schedule.world_size} ranks); lower loader.batch_size"
            )

    def _graphs(self, streams: Sequence[str], codec: str, rescale_flow: bool) -> dict[str, GraphOptions]:
        height, width = int(self.table.height.max()), int(self.table.width.max())
        crop = self.options.crop_size
        resize = self.options.scale != (1.0, 1.0) or min(self.table.height.min(), self.table.width.min()) < crop
        frames, raw = self.schedule.batch_size * self.options.num_frames, codec == "raw"
        graphs = {
            "rgb": GraphOptions(False, frames, height * width * 3, crop, resize, self.options.color > 0, False, raw),
            "flow": GraphOptions(True, 2 * frames, height * width, crop, resize, False, resize and rescale_flow, raw),
        }
        return {stream: graphs[stream] for stream in streams}

    def _next_batch(self, wanted: Slot) -> Batch:
        """The batch of `wanted`; made again, with what comes after it, where a clip turns out to be corrupt."""
        with self._used_by_one():
            while True:
                try:
                    return self._take_batch(wanted)
                except CorruptClipError:
                    most = max(map(len, self.schedule.corrupt.values()), default=0)
                    if not self._skips_corrupt or most == self.schedule.num_clips:
                        raise
                    self._discard_all()

    def _take_batch(self, wanted: Slot) -> Batch:
        """The batch of `wanted`: the next in flight, unless an epoch was left in the middle or a state was loaded."""
        while self._in_flight and not self._in_flight[0].slot.is_same(wanted):
            self._discard()
        if not self._in_flight:
            self._ahead = self.preparer.announced(self.schedule.slots_from(wanted), self.prefetch)
            for prepared in [self._prepare(next(self._ahead)) for _ in range(self.prefetch)]:
                self._send(prepared)  # all or none of them, as DALI's first run takes them together
        replaced = self._in_flight[0].slot.replaced.tolist()
        batch = self._receive()
        self._send(self._prepare(next(self._ahead)))
        self.skipped += [self.clip_ids[clip] for clip in replaced]
        return batch

    @contextmanager
    def _passing_over_corrupt(self, slot: Slot) -> Iterator[None]:
        """Have the schedule pass over a clip of `slot` that turns out to be corrupt: the one road of all of them.

        What is corrupt is what this epoch shows of the clip: another epoch may show frames of it that are sound. So it
        does not matter when, or by which rank, the damage was first met.
        """
        try:
            yield
        except CorruptClipError as error:
            if self._skips_corrupt:
                self.schedule.corrupt.setdefault(slot.epoch, set()).add(error.clip)
            raise

    def _prepare(self, slot: Slot) -> Prepared:
        with self._passing_over_corrupt(slot):
            return self.preparer.prepare(slot)

    def _send(self, prepared: Prepared) -> None:
        self._in_flight.append(prepared)
        for stream, decoder in self.decoders.items():
            decoder.send(prepared.stored[stream], prepared.views)

    def _receive(self) -> Batch:
        prepared = self._in_flight.popleft()
        streams: dict[str, Tensor] = {}
        corrupt: CorruptClipError | None = None
        for stream, decoder in self.decoders.items():  # each hands out its part, or they would be out of step
            try:
                with self._passing_over_corrupt(prepared.slot):
                    streams[stream] = decoder.receive(self._names(prepared.views))
            except CorruptClipError as error:
                corrupt = error
        if corrupt is not None:
            raise corrupt
        clips = np.array([view.clip for view in prepared.views])
        return Batch(
            rgb=streams.get("rgb"),
            flow=streams.get("flow"),
            labels=torch.from_numpy(self.labels[clips]).to(self.device),
            clips=torch.from_numpy(clips).to(self.device),
            looks=torch.tensor([view.look for view in prepared.views]).to(self.device),
            views=prepared.views,
        )

    def _discard_all(self) -> None:
        while self._in_flight:
            self._discard()

    def _discard(self) -> None:
        prepared = self._in_flight.popleft()
        for decoder in self.decoders.values():
            decoder.discard(self._names(prepared.views))

    def _names(self, views: Sequence[View]) -> str:
        return ", ".join(self.clip_ids[view.clip] for view in views)


def _check_arguments(given: dict[str, Any]) -> None:
    """Refuse what the constructor cannot be given, by name."""
    for name in ("batch_size", "num_frames", "crop_size", "num_threads", "world_size", "prefetch", "views", "crops"):
        if given[name] < 1:
            raise UserError(f"ClipLoader: {name}: found {given[name]}, allowed: 1 and more")
    if not 0 <= given["rank"] < given["world_size"]:
        raise UserError(f"ClipLoader: rank: found {given['rank']}, allowed: 0 to {given['world_size'] - 1}")
    if given["train"] and (given["views"], given["crops"]) != (1, 1):
        raise UserError(f"ClipLoader: views, crops: found {given['views']}, {given['crops']}; in training, 1 and 1")
    if given["seed"] < 0:
        raise UserError(f"ClipLoader: seed: found {given['seed']}, allowed: 0 and more")
    streams = tuple(given["streams"])
    if not streams or not set(streams) <= COLUMNS.keys() or len(set(streams)) < len(streams):
        raise UserError(f"ClipLoader: streams: found {streams}, allowed: 'rgb', 'flow' or both")
    for name, allowed in (("temporal", ("uniform", "jitter")), ("on_corrupt", ("error", "skip"))):
        if given[name] not in allowed:
            raise UserError(f"ClipLoader: {name}: found {given[name]!r}, allowed: {', '.join(allowed)}")


def _torch_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"loader.device: found {name!r}, allowed: auto, cpu, cuda, cuda:0 ...")
    device = torch.device(name)
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count()
    index = device.index if device.index is not None else torch.cuda.current_device() if count else 0
    if index >= count:
        raise UserError(f"loader.device: found {name!r}, but torch sees {count} GPUs; allowed: cpu, auto, cuda:0 ...")
    return torch.device("cuda", index)


def _identity(split: int, schedule: Schedule, options: ViewOptions, looks: Looks) -> dict[str, Any]:
    """What the order of clips and their views follow from, beside epoch and position; plain numbers and strings."""
    views = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(options).items()}
    identity = {"split": split, "seed": schedule.seed, "train": schedule.train, **views}
    if schedule.chosen is not None:
        identity["clips"] = schedule.chosen.tolist()
    return identity if looks.per_clip == 1 else {**identity, **asdict(looks)}


def _chosen(clips: Sequence[int], num_clips: int) -> NDArray[np.int64]:
    """`clips` in the split's order, each once."""
    chosen = np.unique(np.asarray(clips, dtype=np.int64))
    if not len(chosen) or chosen[0] < 0 or chosen[-1] >= num_clips:
        raise ValueError(f"clips: found {len(chosen)} positions, allowed: at least one, each from 0 to {num_clips - 1}")
    return chosen
