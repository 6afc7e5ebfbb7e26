"""Faults of one stream at test time, made on batches after decoding: missing, delayed, darkened."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.errors import ConfigError
from pipeline.batch import Batch
from pipeline.format.streams import STREAMS


class _Kind(NamedTuple):
    apply: Callable[[Tensor, float], Tensor]  # clip uint8 [B, C, T, H, W] and severity to the clip that is seen
    allowed: str  # severities, in words
    takes: Callable[[float], bool]
    unit: str = ""
    pictures_alone: bool = False  # not what shows motion


def _missing(clip: Tensor, severity: float) -> Tensor:
    """Zeros of the [-1, 1] that a model sees, level 127.5: no motion, or mid grey."""
    return torch.zeros(clip.shape, device=clip.device)


def _delay(clip: Tensor, severity: float) -> Tensor:
    """Show at each time what was there `severity` frames before, at first again and again the first frame."""
    times = torch.arange(clip.shape[2], device=clip.device) - int(severity)
    return clip[:, :, times.clamp(min=0)]


def _dark(clip: Tensor, severity: float) -> Tensor:
    """Take this share of the light away, from every level in the same proportion."""
    return clip.mul(1 - severity).round().to(clip.dtype)


KINDS = {
    "missing": _Kind(_missing, "none", lambda severity: severity == 1),
    "delay": _Kind(
        _delay, "whole frames of the clip as it is sampled, 1 and more", lambda n: n >= 1 and n % 1 == 0, "frames late"
    ),
    "dark": _Kind(
        _dark,
        "shares of the light that is gone, above 0 to 1",
        lambda share: 0 < share <= 1,
        "of the light is gone",
        True,
    ),
}


@dataclass(frozen=True)
class Corruption:
    """One fault of one stream; `severity` is in frames for delay, a share for dark, and 1 for missing."""

    stream: str
    kind: str
    severity: float = 1.0

    def __call__(self, batch: Batch) -> Batch:
        """The batch as a model sees it when that stream is corrupt; the others stay as they are."""
        changed: dict[str, Any] = {self.stream: KINDS[self.kind].apply(getattr(batch, self.stream), self.severity)}
        return replace(batch, **changed)

    def __str__(self) -> str:
        return f"{self.stream}:{self.kind}" + ("" if self.kind == "missing" else f"={self.severity:g}")


def parse_corruptions(text: str) -> list[Corruption]:
    """An argparse type: STREAM:KIND or STREAM:KIND=SEVERITY,SEVERITY...

    Raises:
        ArgumentTypeError: with what is allowed.
    """
    name, _, severities = text.partition("=")
    stream, _, kind = name.partition(":")
    if stream not in STREAMS or kind not in KINDS:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, allowed: STREAM:KIND=SEVERITY,..., streams {', '.join(STREAMS)}, kinds {', '.join(KINDS)}"
        )
    if KINDS[kind].pictures_alone and STREAMS[stream].channels != 3:
        raise argparse.ArgumentTypeError(f"found {text!r}; {kind} is for pictures, not for motion")
    try:
        values = [1.0] if kind == "missing" and not severities else [float(value) for value in severities.split(",")]
    except ValueError:
        values = []
    if not values or not all(KINDS[kind].takes(value) for value in values):
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed after {name}=: {KINDS[kind].allowed}")
    return [Corruption(stream, kind, value) for value in sorted(set(values))]


def check_streams(corruptions: Sequence[Corruption], streams: Sequence[str]) -> None:
    """Refuse a fault of a stream that the model does not read.

    Raises:
        ConfigError: with the streams that it reads.
    """
    for corruption in corruptions:
        if corruption.stream not in streams:
            raise ConfigError(f"--corrupt {corruption}: found {corruption.stream}, allowed: {', '.join(streams)}")
