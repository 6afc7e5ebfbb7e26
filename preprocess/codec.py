"""What is stored of a frame: its JPEG file as it is, or its pixels."""

import io
from dataclasses import dataclass

from PIL import Image

from configs.schema import DataSection
from pipeline.format import Index, planes_of
from preprocess.jpeg import Picture

_NOUNS = {"raw": "raw pictures"}  # else JPEGs
_MODES = {1: "L", 3: "RGB"}  # Pillow's names of the pixels that are stored, by channels


@dataclass(frozen=True)
class Codec:
    """`data.codec` and what belongs to it.

    Attributes:
        name: "jpeg", or "raw": the pixels as libjpeg-turbo decodes them by default, and so DALI and OpenCV do; uint8,
            row after row, RGB or one channel.
        short_side: raw alone: larger pictures are scaled down until their short side has as many pixels (Pillow's
            bilinear filter, antialiased); the levels of flow stay as they are. None: no picture is scaled.
    """

    name: str = "jpeg"
    short_side: int | None = None

    @classmethod
    def of(cls, data: DataSection) -> "Codec":
        """The codec that a config asks for."""
        return cls(data.codec, data.raw_short_side)

    @property
    def decodes(self) -> bool:
        """Whether encode() decodes the file, so that there is no need to try that before."""
        return self.name == "raw"

    def stored_size(self, picture: Picture) -> Picture:
        """Height and width of a picture as it is stored."""
        short = min(picture.height, picture.width)
        if not self.decodes or self.short_side is None or short <= self.short_side:
            return picture
        height, width = (round(side * self.short_side / short) for side in picture[:2])
        return Picture(height, width, picture.channels)

    def encode(self, jpeg: bytes, picture: Picture) -> bytes:
        """The bytes to store of a JPEG of the size and channels of `picture`; ValueError if it does not decode."""
        if not self.decodes:
            return jpeg
        try:
            with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
                pixels = image.convert(_MODES[picture.channels])
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"does not decode ({error})") from None
        stored = self.stored_size(picture)
        if stored != picture:
            pixels = pixels.resize((stored.width, stored.height), Image.Resampling.BILINEAR)
        return bytes(pixels.tobytes())


def count_pictures(index: Index) -> str:
    """How many pictures a split stores, and as what."""
    number = len(planes_of(index.streams)) * index.num_frames
    return f"{number:,} {_NOUNS.get(index.options.codec, 'JPEGs')}"
