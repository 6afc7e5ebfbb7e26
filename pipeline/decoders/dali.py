"""DALI decoder: the graph of one stream, frames and windows in, uint8 crops out, CPU or GPU."""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline
from nvidia.dali.plugin.pytorch import feed_ndarray
from nvidia.dali.tensors import TensorCPU, TensorListCPU
from torch import Tensor

from common.errors import UserError
from common.memory import is_shortage
from pipeline.batch import BufferPool, copy_to_batch, to_ncthw
from pipeline.decoders.base import FrameError, StreamSpec
from pipeline.decoders.trim import Window, trim_into, warm_up
from pipeline.format.streams import ZERO_MOTION
from pipeline.reader import EncodedFrame, crop_raw
from pipeline.views import View

JPEG, ANCHOR, SHAPE = "jpeg", "anchor", "shape"  # inputs of a graph that decodes
PIXELS = "pixels"  # input of a graph of raw frames: their windows
COLOR = ("brightness", "contrast", "saturation")  # inputs of a graph with colour jitter
GAIN = "gain"  # input of a graph that rescales flow values


def define_graph(spec: StreamSpec, *, device_id: int | None, num_threads: int, prefetch: int) -> Pipeline:
    """Define the pipeline of one stream; its one output is uint8, crop_size x crop_size x C.

    All frames of all clips of a batch are the samples of one DALI batch, so that one decoder does them all. Only the
    window of each frame is decoded (what a JPEG allows of that). JPEGs with restart markers come trimmed: what is left
    a GPU decodes whole, and cuts the window out of it. `device_id` None is the CPU. Nothing is built yet.
    """
    pipe = Pipeline(
        batch_size=spec.max_frames,
        num_threads=num_threads,
        device_id=device_id,
        prefetch_queue_depth=prefetch,
        seed=0,  # nothing random happens here: every decision is fed in
    )
    with pipe:
        images = _windows(on_gpu=device_id is not None) if spec.raw else _decode(spec, on_gpu=device_id is not None)
        if spec.resize:
            images = fn.resize(
                images, size=[spec.crop_size, spec.crop_size], interp_type=types.INTERP_LINEAR, antialias=True
            )
        if spec.color:
            images = fn.color_twist(images, **{name: _factor(name) for name in COLOR})
        if spec.gain:
            images = fn.brightness_contrast(images, contrast=_factor(GAIN), contrast_center=ZERO_MOTION)
        pipe.set_outputs(images)
    return pipe


def _windows(*, on_gpu: bool) -> Any:
    pixels = fn.external_source(name=PIXELS, no_copy=True, dtype=types.UINT8, ndim=3, layout="HWC")
    return pixels.gpu() if on_gpu else pixels


def _decode(spec: StreamSpec, *, on_gpu: bool) -> Any:
    jpegs = fn.external_source(name=JPEG, no_copy=True, dtype=types.UINT8, ndim=1)
    anchor, shape = (fn.external_source(name=name, dtype=types.INT32, ndim=1) for name in (ANCHOR, SHAPE))
    options: dict[str, Any] = {
        "device": "mixed" if on_gpu else "cpu",
        "output_type": types.GRAY if spec.channels == 1 else types.RGB,
        # The defaults reserve 16 MiB on the device and 8 MiB of pinned memory a thread, for photographs.
        "device_memory_padding": spec.frame_bytes,
        "host_memory_padding": spec.frame_bytes,
        "jpeg_fancy_upsampling": True,  # what the CPU's decoder does anyway, so that a GPU gives the same chroma
    }
    if spec.restarts and on_gpu:  # whose engines decode whole images alone; on a CPU a slice costs one more copy
        return fn.slice(fn.decoders.image(jpegs, **options), start=anchor, shape=shape, axes=[0, 1])
    return fn.decoders.image_slice(
        jpegs, anchor, shape, axes=[0, 1], normalized_anchor=False, normalized_shape=False, **options
    )


def _factor(name: str) -> Any:
    return fn.external_source(name=name, dtype=types.FLOAT, ndim=0)


class DaliDecoder:
    """One running DALI pipeline; see pipeline.decoders.base.Decoder."""

    def __init__(self, spec: StreamSpec, device: torch.device, num_threads: int, prefetch: int) -> None:
        self._spec = spec
        self._device = device
        device_id = device.index if device.type == "cuda" else None
        self._pipe = define_graph(spec, device_id=device_id, num_threads=num_threads, prefetch=prefetch)
        try:
            self._pipe.build()
        except RuntimeError as error:
            if is_shortage(error):
                raise
            raise UserError(
                f"loader.device: DALI cannot be set up on {device}: {_reason(error)}; loader.device=cpu needs no GPU"
            ) from None
        if spec.restarts:
            warm_up()
        self._unscheduled = prefetch  # DALI's first run starts as many batches as it works ahead
        self._buffers = BufferPool()
        self._sent: deque[_Sent] = deque()

    def send(self, encoded: Sequence[EncodedFrame], views: Sequence[View]) -> None:
        """Start on the views' windows; see Decoder for their order."""
        spec, failure = self._spec, None
        if spec.raw:
            frames, failure = self._windows(encoded, views)
        elif spec.restarts:
            cut = [trim_frame(frame, view) for view, frame in zip(self._per_frame(views), encoded, strict=True)]
            frames = _as_list([jpeg for jpeg, _ in cut])
            self._pipe.feed_input(ANCHOR, np.array([corner for _, corner in cut], dtype=np.int32))
        else:
            frames = _as_list(encoded)
        self._pipe.feed_input(PIXELS if spec.raw else JPEG, frames)
        for name, values in self._arguments(views).items():  # each [B, ...]
            per_frame = np.repeat(values, len(views[0].frames), axis=0)  # [B * T, ...]
            self._pipe.feed_input(name, np.concatenate([per_frame] * spec.num_planes))
        self._sent.append(_Sent(views, frames, failure))
        if self._unscheduled > 0:
            self._unscheduled -= 1
        if self._unscheduled == 0:
            self._pipe.schedule_run()

    def receive(self) -> Tensor:
        """The stream of the batch that was sent first; see Decoder for the errors."""
        with self._output() as (sent, frames):
            if sent.failure is not None:
                raise sent.failure
            out = self._empty((len(sent.views), self._spec.num_planes, len(sent.views[0].frames), *frames.shape[1:]))
            copy_to_batch(frames, sent.views, out)
        return to_ncthw(out)

    def discard(self) -> None:
        """Let go of the batch that was sent first."""
        with self._output():
            pass

    def close(self) -> None:
        """Free the pipeline with its threads."""
        del self._pipe

    @contextmanager
    def _output(self) -> Iterator[tuple["_Sent", Tensor]]:
        """The next batch and its frames [P * B * T, H, W, C], in DALI's own memory: gone after the with block."""
        try:
            outputs = self._pipe.share_outputs()
        except RuntimeError as error:
            if is_shortage(error):
                raise
            raise FrameError(_reason(error)) from None
        try:
            yield self._sent.popleft(), self._as_tensor(outputs[0].as_tensor())
        finally:
            self._pipe.release_outputs()

    def _as_tensor(self, frames: Any) -> Tensor:
        if self._device.type == "cpu":
            return torch.from_numpy(np.asarray(frames))
        copy = torch.empty(frames.shape(), dtype=torch.uint8, device=self._device)
        # DALI copies on torch's stream, so that what torch does next with the frames comes after.
        feed_ndarray(frames, copy, cuda_stream=torch.cuda.current_stream(self._device))
        return copy

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        if self._device.type == "cpu":
            return self._buffers.take(shape)
        return torch.empty(shape, dtype=torch.uint8, device=self._device)

    def _windows(
        self, encoded: Sequence[EncodedFrame], views: Sequence[View]
    ) -> tuple[TensorListCPU, FrameError | None]:
        """The windows of raw frames; one whose CRC does not match is black, and the failure of the batch."""
        windows, failure = [], None
        for index, (view, frame) in enumerate(zip(self._per_frame(views), encoded, strict=True)):
            try:
                windows.append(np.ascontiguousarray(crop_raw(frame, view)))
            except ValueError as error:
                failure = FrameError(error, index)
                windows.append(np.zeros((view.side, view.side, self._spec.channels), np.uint8))
        return _as_list(windows, "HWC"), failure

    def _per_frame(self, views: Sequence[View]) -> list[View]:
        """The view of each frame that is sent."""
        return [view for view in views for _ in view.frames] * self._spec.num_planes

    def _arguments(self, views: Sequence[View]) -> dict[str, NDArray[Any]]:
        """The graph's inputs that are the same for all frames of a view, each [B, ...]."""
        spec = self._spec
        sides = np.array([view.side for view in views])
        arguments: dict[str, NDArray[Any]] = {}
        if not spec.raw and not spec.restarts:
            arguments[ANCHOR] = np.array([(view.top, view.left) for view in views], dtype=np.int32)
        if not spec.raw:
            arguments[SHAPE] = np.stack([sides, sides], axis=1).astype(np.int32)
        if spec.color:
            factors = np.array([view.color for view in views], dtype=np.float32)
            arguments |= dict(zip(COLOR, factors.T, strict=True))
        if spec.gain:
            arguments[GAIN] = (spec.crop_size / sides).astype(np.float32)
        return arguments


def trim_frame(encoded: EncodedFrame, view: View) -> tuple[EncodedFrame, tuple[int, int]]:
    """What a window needs of a JPEG, and where (top, left) the window lies in that."""
    assert isinstance(encoded, np.ndarray)
    room = np.empty(len(encoded), np.uint8)
    with suppress(ValueError):  # a file of another size than the table says: DALI's to refuse
        trimmed = trim_into(encoded, Window(view.top, view.left, view.side, view.side), room)
        if trimmed is not None:
            return room[: trimmed.size], (trimmed.top, trimmed.left)
    return encoded, (view.top, view.left)


@dataclass(frozen=True)
class _Sent:
    """A batch in the pipeline; DALI does not copy `frames`, so they have to live until then."""

    views: Sequence[View]
    frames: TensorListCPU
    failure: FrameError | None


def _as_list(arrays: Sequence[Any], layout: str = "") -> TensorListCPU:
    """Arrays as DALI is fed them; a plain list goes through checks that cost three times as much."""
    return TensorListCPU([TensorCPU(array, layout=layout) for array in arrays], layout=layout)


def _reason(error: Exception) -> str:
    """The one line of DALI's message that says what is wrong, without the lines of its source."""
    after = str(error).split("encountered:", 1)[-1]
    line = next((line.strip() for line in after.splitlines() if line.strip()), "no reason given")
    return re.sub(r"(Error in thread \d+: )?\[/\S+\]\s*", "", line)
