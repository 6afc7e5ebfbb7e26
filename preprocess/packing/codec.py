"""What is stored of a frame: its JPEG file as it is, that with restart markers, or its pixels."""

import io
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

from configs.schema import DataSection
from pipeline.format.index import Index
from pipeline.format.streams import planes_of
from preprocess.packing import restarts
from preprocess.packing.jpeg import JpegHeader, check_jpeg

_NOUNS = {"raw": "raw pictures"}  # else JPEGs
_MODES = {1: "L", 3: "RGB"}  # Pillow's names of the pixels that are stored, by channels


@dataclass(frozen=True)
class Codec:
    """`data.codec` and what belongs to it.

    Attributes:
        name: "jpeg"; "jpeg-restarts": the same coefficients with restart markers, so that windows can be cut out
            before decoding; or "raw": the pixels as libjpeg-turbo decodes them by default, and so DALI and OpenCV do;
            uint8, row after row, RGB or one channel.
        short_side: raw alone: larger pictures are scaled down until their short side has as many pixels (Pillow's
            bilinear filter, antialiased); the levels of flow stay as they are. None: no picture is scaled.
    """

    name: str = "jpeg"
    short_side: int | None = None
    recoder: int | None = None  # jpeg-restarts alone: the version of what writes them

    @classmethod
    def of(cls, data: DataSection) -> "Codec":
        """The codec that a config asks for."""
        recoder = restarts.RECODER_VERSION if data.codec == "jpeg-restarts" else None
        return cls(data.codec, data.raw_short_side, recoder)

    @property
    def decodes(self) -> bool:
        """Whether encode() decodes the file, so that there is no need to try that before."""
        return self.name != "jpeg"

    def stored_size(self, picture: JpegHeader) -> JpegHeader:
        """Height and width of a picture as it is stored."""
        short = min(picture.height, picture.width)
        if self.name != "raw" or self.short_side is None or short <= self.short_side:
            return picture
        height, width = (round(side * self.short_side / short) for side in picture[:2])
        return JpegHeader(height, width, picture.channels)

    def encode(self, jpeg: bytes, picture: JpegHeader, compare: bool = False) -> bytes:
        """The bytes to store of a JPEG of the size and channels of `picture`, itself where there is nothing to change.

        With `compare` both are decoded where a JPEG has become another, and it is stored only if the pixels agree.

        Raises:
            ValueError: it does not decode.
        """
        if self.name == "raw":
            return self._pixels(jpeg, picture)
        return jpeg if self.recoder is None else _recode(jpeg, compare)

    def _pixels(self, jpeg: bytes, picture: JpegHeader) -> bytes:
        try:
            with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
                pixels = image.convert(_MODES[picture.channels])
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"does not decode ({error})") from None
        stored = self.stored_size(picture)
        if stored != picture:
            pixels = pixels.resize((stored.width, stored.height), Image.Resampling.BILINEAR)
        return bytes(pixels.tobytes())


def _recode(jpeg: bytes, compare: bool) -> bytes:
    """With restart markers, or as it is where it cannot have them but decodes."""
    with suppress(ValueError):
        recoded = restarts.recode(jpeg)
        if not compare or restarts.has_same_pixels(jpeg, recoded):
            return recoded
    check_jpeg(jpeg, decode=True)
    return jpeg


def count_frames(index: Index) -> str:
    """How many pictures a split stores, and as what."""
    number = len(planes_of(index.streams)) * index.num_frames
    return f"{number:,} {_NOUNS.get(index.options.codec, 'JPEGs')}"
