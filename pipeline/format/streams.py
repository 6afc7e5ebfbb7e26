"""The streams of a clip, the planes that they are stored as, and the codecs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# What is stored of a frame: its JPEG file, the same pixels re-coded with restart markers, or its pixels.
CODECS = ("jpeg", "jpeg-restarts", "raw")
ZERO_MOTION = 127.5  # the level of no motion in a flow image
UNKNOWN = -1  # the class of a clip whose target nobody knows
MAX_PIXELS = 2**26  # of a frame, so that a header's word alone cannot ask for gigabytes


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]  # of what becomes a feature of a record
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Entry(BaseModel):
    """What an index says of one thing; nothing is converted to fit."""

    model_config = ConfigDict(strict=True, frozen=True)


class Stream(Entry):
    """One stream of a split: `planes` images per frame, which share the file number `<name>_index`."""

    name: Name
    planes: tuple[Name, ...] = Field(strict=False, min_length=1)
    channels: Literal[1, 3]  # of an image


STREAMS = {
    "rgb": Stream(name="rgb", planes=("rgb",), channels=3),
    "flow": Stream(name="flow", planes=("flow_u", "flow_v"), channels=1),
}
PLANES = tuple(plane for stream in STREAMS.values() for plane in stream.planes)


def planes_of(streams: Iterable[Stream]) -> tuple[str, ...]:
    """Names of all planes, in the order of the frame table's columns."""
    return tuple(plane for stream in streams for plane in stream.planes)


def channels_of(streams: Iterable[Stream]) -> tuple[int, ...]:
    """Channels of each plane."""
    return tuple(stream.channels for stream in streams for _ in stream.planes)
