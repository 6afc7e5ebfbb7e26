"""Frame numbers: which RGB and flow frames belong together, and which of them a clip stores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.epic import flow_index, stride_of_id
from pipeline.format.streams import STREAMS
from preprocess.sources.advice import explain_gap
from preprocess.sources.layouts import LAYOUTS
from preprocess.sources.listing import SourceError, Stream, first_there, list_planes

Numbers = NDArray[np.int64]

# What flow may lack at a video's end, where frames have none to move to; clips there use the last flow frame.
MAX_CLAMPED = 25  # flow frames
MAX_CLAMPED_SHARE = 5  # a fifth of a short video's


@dataclass(frozen=True)
class FrameRules:
    """How a tree of frames is to be read."""

    layout: str = "epic"  # a key of LAYOUTS
    stride: int | None = None  # RGB frames per flow frame of videos whose id does not say it; None: by their counts
    streams: tuple[str, ...] = ("rgb", "flow")  # those that are wanted


@dataclass(frozen=True)
class Video:
    """The planes of a video and how its RGB and flow frames belong together."""

    planes: dict[str, Stream]  # by name, in the order in which they are stored
    stride: int  # RGB frames per flow frame
    stride_from: str  # how it was found

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The planes, in the order in which they are stored."""
        return tuple(self.planes.values())

    @property
    def last_rgb(self) -> int | None:
        """The last RGB frame; None without RGB."""
        return self.planes["rgb"].last if "rgb" in self.planes else None

    @property
    def last_flow(self) -> int | None:
        """The last flow frame, in u or v: one that only the other has is a gap; None without flow."""
        lasts = [self.planes[name].last for name in STREAMS["flow"].planes if name in self.planes]
        return max(lasts, default=None)

    @property
    def max_clamped(self) -> int:
        """How many flow frames may lack at the end of the video before it counts as cut off."""
        if self.last_rgb is None:
            return MAX_CLAMPED
        return min(MAX_CLAMPED, max(1, flow_index(self.last_rgb, self.stride) // MAX_CLAMPED_SHARE))

    def flow_of(self, rgb: Numbers) -> Numbers:
        """The flow frames that stand beside RGB frames; after the last flow frame, the last."""
        flow = flow_index(rgb, self.stride)
        return flow if self.last_flow is None else np.minimum(flow, self.last_flow)

    def num_clamped(self, rgb: Numbers) -> int:
        """How many of these RGB frames stand after the last flow frame."""
        return 0 if self.last_flow is None else int((flow_index(rgb, self.stride) > self.last_flow).sum())

    def numbers_of(self, rgb: Numbers) -> dict[str, Numbers]:
        """The frames of each plane that stand beside RGB frames."""
        return {name: rgb if name == "rgb" else self.flow_of(rgb) for name in self.planes}

    def check_span(self, start: int, stop: int) -> None:
        """Refuse a clip whose frames are not all there, whether it stores them or not.

        Raises:
            SourceError: it goes past a stream's end, or frames between are missing.
        """
        if self.last_rgb is not None and stop > self.last_rgb:
            why = f"frames {start}..{stop} are wanted, the last RGB frame is {self.last_rgb}"
            raise _short(self.planes["rgb"], why)
        self._check_flow_end(start, stop)
        for plane, wanted in self.numbers_of(np.array([start, stop])).items():
            source, (first, last) = self.planes[plane].source, wanted.tolist()
            missing, number = self.planes[plane].missing(first, last)
            if missing:
                name = plane.replace("rgb", "RGB").replace("_", " ")
                why = f"is missing ({missing} of the clip's {name} frames {first}..{last} are)"
                raise SourceError(source.name(number), why, explain_gap(source.path))

    def _check_flow_end(self, start: int, stop: int) -> None:
        first, last = flow_index(start, self.stride), flow_index(stop, self.stride)
        if self.last_flow is None or (first <= self.last_flow and last <= self.last_flow + self.max_clamped):
            return
        of_all = f", {self.last_rgb} RGB frames need {flow_index(self.last_rgb, self.stride)}" if self.last_rgb else ""
        why = f"ends with flow frame {self.last_flow}{of_all} (stride {self.stride}); clips past it have none"
        raise _short(self.planes["flow_u"], why)

    def shortage(self) -> str:
        """What a stream lacks at its end beside the other, in words; empty where nothing is missing."""
        faults = [f"{stream.source.path}: {stream.fault}" for stream in self.planes.values() if stream.fault]
        if faults or self.last_rgb is None or self.last_flow is None:
            return "; ".join(dict.fromkeys(faults))
        missing = flow_index(self.last_rgb, self.stride) - self.last_flow
        if missing > self.max_clamped:
            return f"flow ends with frame {self.last_flow}, {missing} before RGB does (stride {self.stride})"
        if missing < -self.max_clamped:
            return f"RGB ends with frame {self.last_rgb}, flow goes on for {-missing} frames (stride {self.stride})"
        return ""


def open_video(root: str, participant: str, video: str, rules: FrameRules = FrameRules()) -> Video:
    """List a video's frames below `root`; SourceError when they are missing or do not fit."""
    layout = LAYOUTS[rules.layout]
    planes: dict[str, Stream] = {}
    for stream in rules.streams:
        folders = [folder.format(participant=participant, video=video) for folder in layout.folders[stream]]
        path = first_there([f"{root}/{folder}" for folder in folders])
        planes |= list_planes(root, path, STREAMS[stream].planes, layout)
    is_whole = len(rules.streams) == 2 and not any(stream.fault for stream in planes.values())
    counts = [max(planes[name].last for name in STREAMS[s].planes) for s in ("rgb", "flow")] if is_whole else []
    stride, how = find_stride(video, counts, rules.stride)
    return Video(planes, stride, how)


def find_stride(video: str, counts: Sequence[int], given: int | None = None) -> tuple[int, str]:
    """RGB frames per flow frame, and its origin: the video's id, `given`, or counts.

    Counts alone say 2 only where they agree closely; whether the whole set does is for the caller to see.

    Args:
        counts: RGB and flow frames; empty where one of them is not wanted, or is known to be cut off.

    Raises:
        SourceError: the counts are those of another stride than the id's.
    """
    of_id = stride_of_id(video)
    fitting = [stride for stride in (1, 2) if counts and fits_closely(stride, *counts)]
    fitting.sort(key=lambda stride: abs(flow_index(counts[0], stride) - counts[1]))  # some of few frames fit both
    if of_id is not None:
        if fitting and of_id not in fitting:
            kind = {2: "2018's PXX_YY, stride 2", 1: "2020's PXX_1YY, stride 1"}[of_id]
            found = f"{counts[0]} RGB and {counts[1]} flow frames say stride {fitting[0]}, but the id says {kind}"
            raise SourceError(video, f"{found}; frames of another video, or an id of one's own in EPIC's form?")
        return of_id, "id" if not fitting else "counts and id"
    if given is not None:
        return given, "given"
    return fitting[0] if fitting else 1, "counts" if fitting else "default"


def fits_closely(stride: int, num_rgb: int, num_flow: int) -> bool:
    """Whether the counts agree with the stride, but for two frames, or 2 %, at the end."""
    expected = flow_index(num_rgb, stride)
    return -1 <= expected - num_flow <= max(2, expected // 50)


def choose_frames(start: int, stop: int, num_frames: int | None) -> Numbers:
    """Numbers of the stored RGB frames: evenly spaced over start..stop, or (None) all of them."""
    count = stop - start + 1
    if num_frames is None:
        return np.arange(start, stop + 1)
    return start + np.linspace(0, count - 1, num_frames).astype(np.int64)


def _short(stream: Stream, why: str) -> SourceError:
    fault = f"; {stream.fault}, download it again" if stream.fault else ""
    return SourceError(stream.source.path, f"{why}{fault}")
