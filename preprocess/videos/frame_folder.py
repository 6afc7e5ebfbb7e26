"""A folder of numbered images, read as a video's frames."""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from preprocess.videos.decode import Frame, VideoError, by, scaled_size

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_NAME = re.compile(r"(.*?)([0-9]+)\.[a-z]+", re.IGNORECASE | re.DOTALL)
_ORIENTATION = 0x0112  # EXIF's tag


@dataclass
class FrameFolder:
    """The images of a folder, in the order of their numbers; links are not followed."""

    path: Path
    short_side: int = 0  # as of Movie
    fps: float | None = None  # frames per second at which they were taken; None: not known
    # When each was taken, None where the rate is not known; as num_frames, known once times are read.
    seconds: list[float] | None = field(default=None, init=False)
    num_frames: int = field(default=0, init=False)
    notes: list[str] = field(default_factory=list, init=False)  # what may not be as it was meant

    def read_times(self) -> None:
        """Find out how many images there are, and when they were taken; raises what frames() does."""
        self.num_frames = len(self._names())
        self.seconds = None if self.fps is None else [number / self.fps for number in range(self.num_frames)]

    def frames(self) -> Iterator[Frame]:
        """Yield the images; a JPEG that needs no change keeps its file's bytes.

        Raises:
            VideoError: there are none, numbers are missing between, an image cannot be read, or has another size.
        """
        self.read_times()
        first = None
        for name in self._names():
            data, image = self._open(name)
            first = first or image.size
            if image.size != first:
                raise VideoError(
                    f"changes its size at {name}, from {by(first)} to {by(image.size)} pixels; one is allowed"
                )
            yield self._frame(name, data, image)

    def estimate_count(self) -> int:
        """How many frames there will be."""
        return len(self._names())

    def _names(self) -> list[str]:
        """The images' names, by number."""
        try:
            with os.scandir(self.path) as entries:
                files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        except OSError as error:
            raise VideoError(f"cannot be listed ({error.strerror})") from None
        found = [match for name in files if name.lower().endswith(ENDINGS) and (match := _NAME.fullmatch(name))]
        kinds = sorted({match[1] for match in found})
        if len(kinds) != 1:
            named = ", ".join(f"{kind}*" for kind in kinds[:3])
            what = f"images of {len(kinds)} kinds ({named})" if kinds else "no images"
            raise VideoError(f"holds {what}; allowed: one row of numbered images, such as frame_0001.jpg")
        names = {int(match[2]): match[0] for match in found}
        first, last = min(names), max(names)
        if not len(names) == len(found) == last - first + 1:
            missing = next((number for number in range(first, last) if number not in names), None)
            raise VideoError(f"has no image {missing}" if missing is not None else "has two images of one number")
        if first != 1:
            self.notes = [f"frame 1 is {names[first]}: frames count from 1, whatever the files do"]
        return [names[number] for number in sorted(names)]

    def _open(self, name: str) -> tuple[bytes, Image.Image]:
        """An image's file, and what it shows."""
        try:
            data = (self.path / name).read_bytes()
            image = Image.open(io.BytesIO(data))
            image.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise VideoError(f"{name} cannot be read as an image ({error})") from None
        return data, image

    def _frame(self, name: str, data: bytes, image: Image.Image) -> Frame:
        """An image upright and in the size that is asked for."""
        size = scaled_size(*image.size, Fraction(1), self.short_side)
        is_lying = image.getexif().get(_ORIENTATION, 1) != 1
        keeps_bytes = image.format == "JPEG" and image.mode == "RGB" and size == image.size and not is_lying
        if is_lying and not any("EXIF" in note for note in self.notes):
            self.notes.append(f"{name} is to be shown turned (EXIF orientation), and so are its frames")
        pixels = image.convert("RGB")
        if size != image.size:
            pixels = pixels.resize(size, Image.Resampling.BICUBIC)
        upright = ImageOps.exif_transpose(pixels) if is_lying else pixels
        return Frame(np.asarray(upright), data if keeps_bytes else None)
