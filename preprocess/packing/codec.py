"""Codecs: a frame's JPEG file as it is, that with restart markers, or its pixels."""

from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

from configs.schema import DataSection
from pipeline.format.index import Index
from pipeline.format.streams import planes_of
from preprocess.packing.jpeg import JpegHeader, check_jpeg, opened

RECODER_VERSION = 1  # of the bytes that jpeg-restarts writes
_NOUNS = {"raw": "raw images"}  # else JPEGs
_MODES = {1: "L", 3: "RGB"}  # Pillow's names of the pixels that are stored, by channels


@dataclass(frozen=True)
class Codec:
    """`data.codec` and its options; docs/format.md has what each stores."""

    name: str = "jpeg"  # or "jpeg-restarts", "raw"
    short_side: int | None = None  # raw alone: larger frames are scaled down to it, antialiased; None: none is scaled
    recoder: int | None = None  # jpeg-restarts alone: the version of what writes them

    @classmethod
    def of(cls, data: DataSection) -> "Codec":
        """The codec that a config asks for."""
        recoder = RECODER_VERSION if data.codec == "jpeg-restarts" else None
        return cls(data.codec, data.raw_short_side, recoder)

    @property
    def decodes(self) -> bool:
        """Whether encode() decodes the file, so that there is no need to try that before."""
        return self.name != "jpeg"

    def stored_size(self, header: JpegHeader) -> JpegHeader:
        """Height and width of a frame as it is stored."""
        short = min(header.height, header.width)
        if self.name != "raw" or self.short_side is None or short <= self.short_side:
            return header
        height, width = (round(side * self.short_side / short) for side in header[:2])
        return JpegHeader(height, width, header.channels)

    def encode(self, jpeg: bytes, header: JpegHeader, compare: bool = False) -> bytes:
        """The bytes to store of a JPEG with this header; itself where nothing changes.

        With `compare` both are decoded where a JPEG has become another, and it is stored only if the pixels agree.

        Raises:
            ValueError: it does not decode.
        """
        if self.name == "raw":
            return self._pixels(jpeg, header)
        return jpeg if self.recoder is None else _recode(jpeg, compare)

    def _pixels(self, jpeg: bytes, header: JpegHeader) -> bytes:
        with opened(jpeg) as image:
            pixels = image.convert(_MODES[header.channels])
        stored = self.stored_size(header)
        if stored != header:
            pixels = pixels.resize((stored.width, stored.height), Image.Resampling.BILINEAR)
        return bytes(pixels.tobytes())


def _recode(jpeg: bytes, compare: bool) -> bytes:
    """With restart markers, or as it is where it cannot have them but decodes."""
    from preprocess.packing import restarts  # here: importing Numba takes as long as packing thousands of files

    with suppress(ValueError):
        recoded = restarts.recode(jpeg)
        if not compare or restarts.has_same_pixels(jpeg, recoded):
            return recoded
    check_jpeg(jpeg, decode=True)
    return jpeg


def count_frames(index: Index) -> str:
    """How many frames a split stores, of each plane, and as what."""
    number = len(planes_of(index.streams)) * index.num_frames
    return f"{number:,} {_NOUNS.get(index.options.codec, 'JPEGs')}"
