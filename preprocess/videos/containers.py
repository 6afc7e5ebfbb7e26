"""Container sizes: a video file that was cut off has fewer bytes than it says."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# The boxes at the top of an .mp4 or .mov; after anything else a size is not believed.
_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"mfra", b"free", b"skip", b"wide", b"uuid", b"meta")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
TOLERANCE = 16  # bytes; some cameras count a header twice


def missing_bytes(path: Path) -> int:
    """Bytes that a video file lacks by its own account; 0 for none, or if it does not say."""
    with open(path, "rb") as file:
        magic = file.read(12)
        named = 0
        file.seek(0)
        if magic[4:8] in _BOXES:
            named = _end_of(file, _box_size)
        elif magic[:4] == b"RIFF":
            named = _end_of(file, _riff_size)
        elif magic[:4] == _EBML:
            named = _end_of_segment(file)
        missing = named - path.stat().st_size
    return missing if missing > TOLERANCE else 0


def _end_of(file: BinaryIO, size_of: Callable[[bytes], int]) -> int:
    """Where the boxes or chunks at a file's top end, by their headers."""
    end = 0
    while (size := size_of(file.read(16))) >= 8:
        end += size
        file.seek(end)
    return end


def _box_size(header: bytes) -> int:
    if len(header) < 8 or header[4:8] not in _BOXES:
        return 0
    size = int.from_bytes(header[:4], "big")  # 0: to wherever the file ends
    return int.from_bytes(header[8:16], "big") if size == 1 else size


def _riff_size(header: bytes) -> int:
    """Over 1 GB an .avi has several chunks; one whose writer was killed says 0."""
    if len(header) < 8 or header[:4] != b"RIFF" or header[4:8] == b"\xff" * 4:
        return 0
    size = int.from_bytes(header[4:8], "little")
    return 8 + size + size % 2


def _end_of_segment(file: BinaryIO) -> int:
    file.seek(4)
    file.seek(_ebml_size(file) or 0, 1)
    if file.read(4) != _SEGMENT:
        return 0
    size = _ebml_size(file)
    return 0 if size is None else file.tell() + size


def _ebml_size(file: BinaryIO) -> int | None:
    """A number as long as its first set bit says; None (unknown) if all further ones are set."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else value
