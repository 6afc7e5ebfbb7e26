"""Uncompressed .tar files: read and check ustar, GNU and pax headers; write as EPIC's."""

import io
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from common.files import atomic_write

BLOCK = 512
MAX_HEADER = 2**20  # bytes of a long name or of pax records
_ZEROS = bytes(BLOCK)
_CHECKSUM = slice(148, 156)
_SPACES = 8 * ord(" ")  # what the checksum counts for its own field
_ADLER = 65521
_GNU_NAME, _PAX, _PAX_GLOBAL = b"L", b"x", b"g"
_WITHOUT_DATA = {bytes([kind]) for kind in b"123456"}  # links, devices, folders, pipes
_PAX_RECORD = re.compile(rb"([0-9]{1,7}) ([^=]{1,1000})=")
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip"}


class TarError(ValueError):
    """An archive that cannot be read on: why."""


class Member(NamedTuple):
    """One entry of an archive."""

    name: str
    offset: int  # bytes into the archive
    size: int
    is_file: bool  # a plain one: neither a link nor sparse


@contextmanager
def tar_writer(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Lend a function that appends a file to an archive, which takes its name once it is whole."""
    with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w") as archive:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all; an hour of video has 10^5

        yield add


def read_members(path: str) -> Iterator[Member]:
    """Yield the members in their order; a member that is yielded lies wholly inside the file.

    Raises:
        TarError: what follows the members so far is cut off or damaged, or it is no .tar.
        OSError: the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield from _walk(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _walk(descriptor: int, end: int) -> Iterator[Member]:
    position, last = 0, ""
    pax: dict[bytes, bytes] = {}  # of headers that say more of the member after them
    while True:
        header = os.pread(descriptor, BLOCK, position)
        if not pax and header == _ZEROS:
            return
        if len(header) < BLOCK:
            raise TarError(f"it is cut off {f'after {last}' if last else 'inside its first header'}")
        if not _is_header(header):
            raise TarError(_not_a_header(header, position, last))
        kind, size = header[156:157], _number(header[124:136])
        name = (pax.get(b"path") or _name(header)).decode("utf-8", "surrogateescape")
        size = int(pax[b"size"]) if b"size" in pax else size
        if size < 0:
            raise TarError(f"{name[:200]!r} says that it has {size} bytes")
        position += BLOCK
        stored = 0 if kind in _WITHOUT_DATA else size
        if position + stored > end:
            raise TarError(f"it is cut off inside {name[:200]}")
        if kind in (_GNU_NAME, _PAX):
            pax = pax | _more(kind, _content(descriptor, position, size)) | {b"": b""}
        elif kind != _PAX_GLOBAL:
            is_file = kind in (b"0", b"\0", b"7") and not any(key.startswith(b"GNU.sparse") for key in pax)
            yield Member(name, position, size, is_file and not name.endswith("/"))
            pax, last = {}, name
        position += -(-stored // BLOCK) * BLOCK


def _is_header(header: bytes) -> bool:
    """Whether the checksum is right, by Adler-32's low half: a sum of bytes in C."""
    try:
        wanted = int(header[_CHECKSUM].strip(b" \0"), 8)
    except ValueError:
        return False
    others = _SPACES - sum(header[_CHECKSUM])
    if ((zlib.adler32(header) & 0xFFFF) - 1 + others - wanted) % _ADLER == 0:
        return True
    signed = sum(byte - 256 if byte > 127 else byte for byte in header)  # as some old writers have it
    return signed + others == wanted


def _not_a_header(header: bytes, position: int, last: str) -> str:
    if position:
        return f"what follows {last or 'its first header'} is damaged"
    packed = next((name for magic, name in COMPRESSIONS.items() if header.startswith(magic)), None)
    return f"it is compressed by {packed}" if packed else "its first bytes are no header"


def _number(field: bytes) -> int:
    """Octal digits, or, where the first bit is set, a binary number with a sign."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big", signed=field[0] == 0xFF) - (0 if field[0] == 0xFF else 0x80 << 88)
    digits = field.strip(b" \0")
    if not digits.isdigit() and digits:
        raise TarError("a header's size is no number")
    return int(digits or b"0", 8)


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[345] and header[257:263] == b"ustar\0":  # GNU keeps other things where ustar has the name's beginning
        return header[345:500].partition(b"\0")[0] + b"/" + name
    return name


def _content(descriptor: int, position: int, size: int) -> bytes:
    if size > MAX_HEADER:
        raise TarError(f"a header asks for {size} bytes")
    content = os.pread(descriptor, size, position)
    if len(content) < size:
        raise TarError("it is cut off inside a header")
    return content


def _more(kind: bytes, content: bytes) -> dict[bytes, bytes]:
    """What a header of headers says of the next member."""
    if kind == _GNU_NAME:
        return {b"path": content.partition(b"\0")[0]}
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(content):
        match = _PAX_RECORD.match(content, position)
        length = int(match[1]) if match else 0
        if match is None or position + length > len(content) or match.end() > position + length - 1:
            raise TarError("its pax records are damaged")
        records[match[2]] = content[match.end() : position + length - 1]
        position += length
    if not records.get(b"size", b"0").isdigit():
        raise TarError("its pax records are damaged")
    return records
