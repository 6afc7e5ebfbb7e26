"""index.json: the content of a split, how it was made, sizes and checksums."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from crc32c import crc32c
from pydantic import Field, ValidationError, field_validator

from common.errors import UserError
from pipeline.format.streams import CODECS, STREAMS, Count, Entry, Name, Stream
from pipeline.format.tfrecord import ID_FEATURES, NUMBER_FEATURES

FORMAT: Final = "clip-shards"
VERSION = 2
VERSIONS = (1, VERSION)  # that can be read
INDEX_NAME = "index.json"
TABLE_NAME: Final = "frames.npz"


class ShardError(UserError):
    """A shard set that is missing, unfinished or damaged; the message names the file and the way out."""


class Target(Entry):
    """What is to be predicted of a clip: a feature of its record, a column of the table's targets."""

    name: Name
    classes: tuple[str, ...] | None = Field(default=None, strict=False)  # their names, where there are any
    clips: dict[str, Count] = Field(default_factory=dict)  # how many of each class, by its number

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name in (*ID_FEATURES, *NUMBER_FEATURES) or name.endswith("_index"):
            raise ValueError(f"found {name!r}, which every record has already; allowed: another name")
        return name


class ShardEntry(Entry):
    """One shard."""

    name: Annotated[str, Field(pattern=r"^[0-9]{5,}\.tfrecord$")]
    bytes: Count
    crc32c: Count
    clips: Count


class TableEntry(Entry):
    """The frame table."""

    name: Literal["frames.npz"] = TABLE_NAME
    bytes: Count
    crc32c: Count


class Geometry(Entry):
    """How many clips have frames of a size."""

    height: Count
    width: Count
    clips: Count


class LeftOut(Entry):
    """A file for which a clip was left out."""

    clip_id: str
    file: str
    why: str


class Inputs(Entry):
    """Inputs of packing: digests of the clips and of the chosen frames, and how much that is."""

    annotations: str | None = None
    frames: str | None = None
    num_files: Count | None = None
    num_bytes: Count | None = None


class PackOptions(Entry):
    """The options of packing, as in the config's data section; None where an index does not say."""

    frames_per_clip: int | str | None = None
    preset: str | None = None
    shard_mib: int | None = None
    codec: str = CODECS[0]
    raw_short_side: int | None = None
    recoder: int | None = None  # jpeg-restarts: the version of what wrote them
    check: str | None = None
    on_bad_clip: str | None = None


class Index(Entry):
    """The content of index.json, of any version that is read."""

    format: Literal["clip-shards"] = FORMAT
    version: int = VERSION
    split: str
    fingerprint: str | None = None
    inputs: Inputs = Inputs()
    options: PackOptions = PackOptions()
    source: dict[str, Any] | None = None  # how frames and flow were made: the extract.json beside them, if any
    left_out: list[LeftOut] = Field(default_factory=list)
    not_recoded: Count = 0  # jpeg-restarts: files that could not be, and are stored as they were
    num_clips: Count
    num_frames: Count
    geometry: list[Geometry] = Field(default_factory=list)
    streams: tuple[Stream, ...] = Field(strict=False, min_length=1)
    targets: tuple[Target, ...] = Field(strict=False, min_length=1)
    shards: list[ShardEntry]
    frames: TableEntry
    checksum: Count = 0

    @field_validator("streams", "targets", "shards")
    @classmethod
    def _differ(cls, entries: Sequence[Any]) -> Sequence[Any]:
        names = [name for entry in entries for name in getattr(entry, "planes", [entry.name])]
        if len(set(names)) < len(names):
            raise ValueError("a name occurs twice")
        return entries

    def to_json(self) -> str:
        """As it is stored, checksum included."""
        content = self.model_dump(mode="json")
        return json.dumps(content | {"checksum": index_checksum(content)}, indent=1) + "\n"


def read_index(folder: Path) -> Index:
    """Read and check index.json: checksum, format, version, and every entry.

    Raises:
        ShardError: it is missing, damaged, or of another version.
    """
    path = folder / INDEX_NAME
    check_packed(folder)
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ShardError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{path}: damaged, not JSON ({error}); {remedy(folder)}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ShardError(f"{path}: not the index of a split (no format {FORMAT!r}); {remedy(folder)}")
    if content.get("version") not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        raise ShardError(f"{path}: version {content.get('version')!r}, this code reads {known}; {remedy(folder)}")
    if content.get("checksum") != index_checksum(content):
        raise ShardError(f"{path}: damaged, its checksum does not match its content; {remedy(folder)}")
    try:
        index = Index.model_validate(_from_version_1(content) if content["version"] == 1 else content)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ShardError(f"{path}: does not have the entries of docs/format.md ({where}); {remedy(folder)}") from None
    if index.options.codec not in CODECS:
        codecs = ", ".join(CODECS)
        raise ShardError(f"{path}: codec {index.options.codec!r}, this code reads {codecs}; {remedy(folder)}")
    return index


def _from_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """The index of version 1 as one of today's: both streams, and one target, `label`."""
    streams = [stream.model_dump() for stream in STREAMS.values()]
    target = {"name": "label", "clips": content.get("classes", {})}
    return {"split": "", **content, "streams": streams, "targets": [target]}


def check_packed(folder: Path, command: str = "python preprocess/pack.py -c CONFIG") -> None:
    """Refuse a folder without an index; `command` is what packs it.

    Raises:
        ShardError: there is none; the message has the command.
    """
    if not (folder / INDEX_NAME).exists():
        raise ShardError(
            f"{folder}: no {INDEX_NAME} here, so this is not a packed split, or not a finished one; "
            f"run `{command}` (again), or set data.shards to where it is"
        )


def index_checksum(index: dict[str, Any]) -> int:
    """CRC-32C of the index without its checksum, as JSON with sorted keys and no white space."""
    rest = {key: value for key, value in index.items() if key != "checksum"}
    return crc32c(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def remedy(folder: Path) -> str:
    """What helps with a split whose files are not as they were written."""
    return f"copy it again, or remove {folder} and pack it anew"
