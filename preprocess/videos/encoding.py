"""JPEGs of RGB frames and of the flow between them, encoded on any number of threads."""

import threading
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from preprocess.videos.decode import Frame, Pixels
from preprocess.videos.optical_flow import METHODS, Flow, Gray, Method, flow_method, quantise, share_clipped

Item = TypeVar("Item")
Result = TypeVar("Result")

LEAST_SHORT_SIDE = 32  # pixels


class ExtractOptions(BaseModel):
    """Extraction options, as in extract.json. A description says what is allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Pixels of the scaled frames, 0: as they are; frames per second to take, or of a folder, None: all.
    short_side: int = Field(256, ge=0, description=f"0, or {LEAST_SHORT_SIDE} and more")
    fps: float | None = Field(None, gt=0, le=1000, description="above 0, up to 1000")
    quality: int = Field(81, ge=1, le=100, description="1 to 100")  # of RGB's JPEGs, as libjpeg counts
    flow: Method = Field("dis", description=" or ".join(METHODS))
    bound: float = Field(20.0, gt=0, le=1000, description="above 0, up to 1000")  # pixels; flow beyond is clipped
    stride: Literal[1, 2] = Field(1, description="1 or 2")  # RGB frames per flow frame
    # Flow frame k is the motion from RGB frame t = (k - 1) * stride + 1 to frame t + dilation.
    dilation: int = Field(1, ge=1, description="1 and more")
    flow_quality: int = Field(95, ge=1, le=100, description="1 to 100")

    @field_validator("short_side")
    @classmethod
    def _not_tiny(cls, short_side: int) -> int:
        if 0 < short_side < LEAST_SHORT_SIDE:
            raise ValueError("too small")
        return short_side


class Encoded(NamedTuple):
    """A frame as it is stored, and the flow that ends in it."""

    width: int
    height: int
    rgb: bytes  # empty where it was not wanted
    flow: tuple[bytes, bytes] | None  # u and v; None where no flow frame ends, or none that was wanted
    clipped: float  # share of that flow beyond the bound


class Wanted(NamedTuple):
    """Which of a video's frames are to be encoded: numbers of RGB frames, from 1."""

    rgb: Container[int]
    flow: Container[int]  # in which the flow ends


class _Job(NamedTuple):
    frame: Frame
    is_wanted: bool
    pair: tuple[Gray, Gray] | None  # from which to which the flow goes


def encode_frames(
    frames: Iterable[Frame], options: ExtractOptions, num_threads: int = 1, wanted: Wanted | None = None
) -> Iterator[Encoded]:
    """Yield what is stored of each frame, in order, the same for any number of threads."""
    return map_in_order(_encoder(options), _pair(frames, options, wanted), num_threads)


def map_in_order(work: Callable[[Item], Result], items: Iterable[Item], num_threads: int) -> Iterator[Result]:
    """Yield the work's results in the order of the items, of which only a few are ahead."""
    if num_threads == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _pair(frames: Iterable[Frame], options: ExtractOptions, wanted: Wanted | None) -> Iterator[_Job]:
    """Join each frame to the one that flow comes from to it."""
    import cv2  # of the extra `extract`

    recent: deque[Gray] = deque(maxlen=options.dilation + 1)
    for number, frame in enumerate(frames, 1):
        recent.append(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY))
        begin = number - options.dilation
        has_flow = begin >= 1 and (begin - 1) % options.stride == 0 and (wanted is None or number in wanted.flow)
        yield _Job(frame, wanted is None or number in wanted.rgb, (recent[0], recent[-1]) if has_flow else None)


def _encoder(options: ExtractOptions) -> Callable[[_Job], Encoded]:
    """Encodes frames; each thread has a flow method of its own, which holds buffers."""
    methods = threading.local()

    def encode(job: _Job) -> Encoded:
        pixels, jpeg = job.frame
        height, width = pixels.shape[:2]
        rgb = (jpeg or encode_jpeg(pixels[..., ::-1], options.quality)) if job.is_wanted else b""
        if job.pair is None:
            return Encoded(width, height, rgb, None, 0.0)
        if not hasattr(methods, "compute"):
            methods.compute = flow_method(options.flow)
        flow: Flow = methods.compute(*job.pair)
        u, v = (encode_jpeg(plane, options.flow_quality) for plane in quantise(flow, options.bound))
        return Encoded(width, height, rgb, (u, v), share_clipped(flow, options.bound))

    return encode


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """A JPEG of pixels [H, W, 3] in BGR, or [H, W]."""
    import cv2

    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return bytes(data)
