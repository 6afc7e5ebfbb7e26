"""Options of a ClipLoader: its keyword arguments, with types, ranges and defaults."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, SkipValidation, ValidationError, field_validator, model_validator

from common.errors import UserError
from configs.options import StrictModel
from configs.schema import Fraction, PositiveInt, Scale, Seed
from pipeline.format.streams import STREAMS


class LoaderOptions(StrictModel):
    """Options of one rank's loader; see ViewOptions for what the model sees of a clip.

    Attributes:
        batch_size: clips per batch of this rank; a step of all ranks takes batch_size * world_size.
        num_frames: T; the stored frames of a clip are sampled evenly, or jittered (`temporal`).
        crop_size: H = W, pixels.
        device: "cpu", "cuda", "cuda:N", or "auto" for a GPU where there is one: where batches come out.
        decoder: "dali", which decodes on `device`; "turbojpeg", a pool of threads on the CPU, which uploads to a GPU as
            it goes; or "auto": DALI on a GPU, the pool on a CPU. Both give the same pixels; where windows are resized
            or colours change, within one level.
        num_threads: decoding threads, shared out between the streams (at least one each).
        streams: which streams are decoded; the other one is None in the batches and its bytes are not read.
        rescale_flow: where a window is resized, scale the flow's values with it.
        prefetch: batches decoded ahead.
        balance: in training, how evenly an epoch shows the classes of the first target: 0 as the split has them, 1 each
            equally often; see balanced_order.
        on_corrupt: "error", or "skip": train on the next clip of the order instead (never in evaluation).
        clips: positions in the split: epochs are made of these clips alone, as if there were no others; a clip is
            seen as in an epoch of all. None: the whole split.
        name: the split that the folder has to hold, so that another one's files in it are noticed; None: any.
        views, crops: in evaluation, samples in time and crops per clip: see MultiView. A batch then holds batch_size
            views, `batch.view_ids` says which, and those of a clip follow one another.
    """

    batch_size: PositiveInt = 8
    num_frames: PositiveInt = 16
    crop_size: PositiveInt = 224
    train: bool = True
    seed: Seed = 0
    device: str = Field("cpu", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    decoder: Literal["auto", "dali", "turbojpeg"] = "auto"
    num_threads: PositiveInt = 2
    rank: int = Field(0, ge=0)
    world_size: PositiveInt = 1
    streams: tuple[str, ...] = tuple(STREAMS)
    temporal: Literal["uniform", "jitter"] = "uniform"
    mirror: Fraction = 0.5
    scale: Scale = (1.0, 1.0)
    color: float = Field(0.0, ge=0, lt=1)
    synchronized: bool = True
    rescale_flow: bool = False
    prefetch: PositiveInt = 2
    balance: Fraction = 0.0
    on_corrupt: Literal["error", "skip"] = "error"
    clips: SkipValidation[Sequence[int]] | None = None
    name: str | None = None
    views: PositiveInt = 1
    crops: PositiveInt = 1

    @classmethod
    def of(cls, keywords: dict[str, Any]) -> "LoaderOptions":
        """The options that `keywords` name.

        Raises:
            UserError: an unknown keyword, or a value out of range; one message for all of them.
        """
        try:
            return cls(**keywords)
        except ValidationError as error:
            raise UserError("; ".join(f"ClipLoader: {_message(problem)}" for problem in error.errors())) from None

    @field_validator("streams")
    @classmethod
    def _known_streams(cls, streams: tuple[str, ...]) -> tuple[str, ...]:
        if not streams or not set(streams) <= set(STREAMS) or len(set(streams)) < len(streams):
            raise ValueError(f"found {streams}, allowed: {' or '.join(map(repr, STREAMS))}, each once")
        return streams

    @model_validator(mode="after")
    def _fit_together(self) -> "LoaderOptions":
        if self.rank >= self.world_size:
            raise ValueError(f"rank: found {self.rank}, allowed: 0 to {self.world_size - 1}")
        if self.train and (self.views, self.crops) != (1, 1):
            raise ValueError(f"views, crops: found {self.views}, {self.crops}; in training, 1 and 1")
        return self


def _message(problem: Any) -> str:
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{name}: unknown; known: {', '.join(LoaderOptions.model_fields)}"
    if problem["type"] == "value_error":
        return ": ".join(filter(None, (name, str(problem["ctx"]["error"]))))
    return f"{name}: found {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
