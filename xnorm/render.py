"""A video with its flow as colours beside it, and below what a run takes it for: a name and a bar a class."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from common.cli import require_parent
from common.display import Display
from common.errors import ConfigError
from common.files import atomic_write
from pipeline.inspect.flow_colours import FlowColours, pixels_per_level
from pipeline.views import uniform_frames
from preprocess.videos.clip_reader import EncodedClip, VideoClips
from xnorm.predictions import Prediction, Predictions, time_text
from xnorm.sources import VideoSource, is_split

FORMATS = {".mp4": "mp4", ".mkv": "matroska"}  # by ending
ENCODERS = ("libx264", "mpeg4")  # the first that FFmpeg has here
UNIT = Fraction(1, 60_000)  # seconds, of the times in what is written; MPEG-4 has no finer ones than 1 / 65,535
RATE = 25  # frames per second, of a folder of frames whose own is not known
SAMPLED = 16  # frames whose flow decides the colours' scale
MIN_WIDTH = 240  # pixels of each half: smaller frames are enlarged by a whole number
SHOWN = 3  # classes
TEXT = 20  # pixels of a line
INK, FAINT, PAPER, BAR = (235, 235, 235), (160, 160, 160), (24, 24, 24), (70, 130, 200)

Frame = NDArray[np.uint8]  # [H, W, 3], RGB


def check_renderable(path: Path, videos: Sequence[Path]) -> None:
    """Refuse what cannot be rendered, before the work.

    Raises:
        ConfigError: several videos or a packed split, a file's unknown ending, a missing folder.
    """
    if len(videos) > 1 or is_split(videos[0]):
        raise ConfigError("--render: takes one video; a packed split has no whole videos")
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--render: found {path}; allowed endings: {', '.join(FORMATS)}")
    if path.exists() and path.samefile(videos[0]):
        raise ConfigError(f"--render: {path} is the video itself; choose another name")
    require_parent(path)


def render(source: VideoSource, predictions: Predictions, path: Path, display: Display) -> None:
    """Write `source`'s frames and flow, with the likeliest classes of the clip whose middle is nearest below them.

    Raises:
        UserError: the file cannot be written.
        VideoError: the video has been damaged since it was predicted.
    """
    video = source.video
    numbers = [np.array([number]) for number in range(1, video.num_frames + 1)]
    display.begin(f"render {path.name}", len(numbers), unit="frames")
    pixels = pixels_per_level({"options": source.made.model_dump()}, "")
    painter = Painter(video, predictions, pixels)
    times = video.seconds or [number / RATE for number in range(len(numbers))]
    with atomic_write(path) as file:
        frames = (painter.paint(number, clip) for number, clip in enumerate(video.read(numbers), 1))
        for count, _ in enumerate(encode(file, FORMATS[path.suffix.lower()], frames, times), 1):
            display.update(done=count)


def encode(file: Any, container_format: str, frames: Iterator[Frame], times: Sequence[float]) -> Iterator[None]:
    """Write frames, each shown at its time (seconds), into an open file; yields after each of them."""
    import av  # of the extra `extract`

    codec = next(name for name in ENCODERS if name in av.codecs_available)
    rate = Fraction(len(times) / max(times[-1] - times[0], 1e-3)).limit_denominator(1000)
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=max(rate, Fraction(1)))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = UNIT
        first, last = next(frames), -1
        stream.height, stream.width = first.shape[:2]
        for pixels, time in zip(chain([first], frames), times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            last = max(last + 1, round((time - times[0]) / UNIT))
            frame.pts, frame.time_base = last, UNIT
            container.mux(stream.encode(frame))
            yield
        container.mux(stream.encode(None))


class Painter:
    """Paints frame after frame: RGB, flow, and the caption of the clip that it belongs to."""

    def __init__(self, video: VideoClips, predictions: Predictions, pixels: float | None) -> None:
        """Choose the flow's scale by some frames of the video; a level of it is `pixels` of motion per frame."""
        self._predictions = predictions
        self._captions: dict[int, Frame] = {}
        self._nearest = nearest_clips(predictions, video.num_frames)
        some = [np.array([number + 1]) for number in np.unique(uniform_frames(video.num_frames, SAMPLED)).tolist()]
        self._colours = FlowColours.of(*map(_decode_flow, video.read(some)))
        self._scale = f"flow: white is no motion, full colour {self._colours.scale_text(pixels)}"

    def paint(self, number: int, clip: EncodedClip) -> Frame:
        """The frame of this number, from 1: [H, W, 3], both even."""
        rgb = _decode(clip.rgb[0])[..., ::-1]
        u, v = _decode_flow(clip)
        both = np.concatenate([rgb, self._colours.paint(u, v)], axis=1)
        enlarge = -(-MIN_WIDTH // rgb.shape[1])
        both = both.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
        whole = np.concatenate([both, self._caption(self._nearest[number - 1], both.shape[1])])
        odd = [(0, side % 2) for side in whole.shape[:2]]
        return np.ascontiguousarray(np.pad(whole, [*odd, (0, 0)], mode="edge"))

    def _caption(self, clip: int, width: int) -> Frame:
        if clip not in self._captions:
            prediction = None if clip < 0 else self._predictions[clip]
            self._captions = {clip: draw_caption(prediction, width, self._scale)}  # of this clip's frames alone
        return self._captions[clip]


def nearest_clips(predictions: Predictions, num_frames: int) -> NDArray[np.int64]:
    """Of each frame the clip that it is in, the one whose middle is nearest where there are several, -1 for none."""
    frames = np.arange(1, num_frames + 1)
    nearest, least = np.full(num_frames, -1), np.full(num_frames, np.inf)
    for clip, span in enumerate(predictions.spans):
        distance = np.abs(frames - (span.start_frame + span.stop_frame) / 2)
        closer = (frames >= span.start_frame) & (frames <= span.stop_frame) & (distance < least)
        nearest[closer], least[closer] = clip, distance[closer]
    return nearest


def draw_caption(prediction: Prediction | None, width: int, scale: str) -> Frame:
    """When the clip is, and the likeliest classes with a bar each: [H, width, 3]."""
    image = Image.new("RGB", (width, (SHOWN + 1) * TEXT + 8), PAPER)
    draw = ImageDraw.Draw(image)
    if prediction is not None:
        draw.text((6, 4), time_text(prediction.span), FAINT, font=_font(12))
    draw.text((width - 6, 4), scale, FAINT, font=_font(10), anchor="ra")
    for line, score in enumerate(() if prediction is None else prediction.top(SHOWN), 1):
        top, left, right = 4 + line * TEXT, width // 2, width - 54
        draw.rectangle((left, top + 3, left + round((right - left) * score.probability), top + 14), fill=BAR)
        draw.rectangle((left, top + 3, right, top + 14), outline=FAINT)
        draw.text((width - 6, top + 1), f"{score.probability:.0%}", INK, font=_font(12), anchor="ra")
        draw.text((6, top), _fitting(score.name, left - 12), INK, font=_font(13))
    return np.asarray(image)


def _fitting(text: str, width: int) -> str:
    """The text, or as much of its begin as is no wider."""
    if _font(13).getlength(text) <= width:
        return text
    while text and _font(13).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def _decode(jpeg: bytes) -> NDArray[np.uint8]:
    """Pixels of a JPEG as OpenCV gives them: [H, W, 3] in BGR."""
    pixels: NDArray[np.uint8] = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return pixels


def _decode_flow(clip: EncodedClip) -> NDArray[np.uint8]:
    """u and v of a clip's first frame, [2, H, W]."""
    planes = [np.frombuffer(plane[0], np.uint8) for plane in (clip.flow_u, clip.flow_v)]
    return np.stack([cv2.imdecode(plane, cv2.IMREAD_GRAYSCALE) for plane in planes])


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, so that it is there."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
