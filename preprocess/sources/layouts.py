"""Layouts of `data.layout`: where frames lie and how their files are named."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

SUFFIX = ".jpg"
_NUMBERED = re.compile(r"(?:(.*)/)?([^/]*?)([0-9]{1,10})(\.[A-Za-z0-9]{1,5})", re.DOTALL)


class Names(NamedTuple):
    """Files that are named alike: in `folder`, `prefix`, a number of `digits`, `suffix`."""

    folder: str  # "" is the video's own folder or the archive's top
    prefix: str
    digits: int
    suffix: str

    def __str__(self) -> str:
        """A name with its number left open, as printf has it."""
        return f"{self.inside}{self.prefix}%0{self.digits}d{self.suffix}"

    @property
    def inside(self) -> str:
        """The folder, to be put before a name."""
        return f"{self.folder}/" if self.folder else ""

    def name(self, number: int) -> str:
        """The file of a number."""
        return f"{self.inside}{self.prefix}{number:0{self.digits}d}{self.suffix}"


class Pattern(NamedTuple):
    """Files that a layout has for one plane of images."""

    folder: str
    prefix: str
    digits: int | None  # None: as many as there are

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.folder}/{self.prefix}".lstrip("/") + f"%{f'0{self.digits}' if self.digits else ''}d{SUFFIX}"

    @classmethod
    def of(cls, text: str) -> "Pattern":
        """A pattern written like u/frame_%010d.jpg, or img_%d.jpg for any number of digits."""
        inside, _, name = text.rpartition("/")
        prefix, digits = name.removesuffix(SUFFIX).split("%")
        return cls(inside, prefix, int(digits[:-1]) if digits != "d" else None)

    def fits(self, names: Names, top: str = "") -> bool:
        """Whether files are the pattern's, in an archive where all lie below `top`."""
        folder = os.path.join(top, self.folder).rstrip("/")
        is_named = (names.folder, names.prefix, names.suffix) == (folder, self.prefix, SUFFIX)
        return is_named and self.digits in (None, names.digits)


_EPIC_FOLDERS = {"rgb": "{participant}/rgb_frames/{video}", "flow": "{participant}/flow_frames/{video}"}
_EPIC_FILES = {"rgb": ["frame_%010d.jpg"], "flow_u": ["u/frame_%010d.jpg"], "flow_v": ["v/frame_%010d.jpg"]}
_ANY_FOLDER = {stream: (folder, "{participant}/{video}", "{video}") for stream, folder in _EPIC_FOLDERS.items()}


@dataclass(frozen=True)
class Layout:
    """Where a video's folder or .tar lies below data.frames, and its files; the first wins."""

    folders: Mapping[str, Sequence[str]]  # by stream
    files: Mapping[str, Sequence[str]]  # by plane
    from_zero: bool = True  # whether numbers may count from 0

    def patterns(self, plane: str) -> list[Pattern]:
        """The ways to name the files of a plane: the layout's own, then EPIC's."""
        return [Pattern.of(text) for text in dict.fromkeys([*self.files[plane], *_EPIC_FILES[plane]])]


LAYOUTS = {
    "epic": Layout({stream: (folder,) for stream, folder in _EPIC_FOLDERS.items()}, _EPIC_FILES, from_zero=False),
    "denseflow": Layout(  # and MMAction2; numbers count from 0 or from 1
        _ANY_FOLDER,
        {"rgb": ["img_%d.jpg"], "flow_u": ["flow_x_%d.jpg"], "flow_v": ["flow_y_%d.jpg"]},
    ),
    "tsn": Layout(
        _ANY_FOLDER,
        {
            "rgb": ["img_%d.jpg", "image_%d.jpg", "frame_%d.jpg"],
            "flow_u": ["x_%d.jpg", "x/frame_%d.jpg", "x/img_%d.jpg", "x/%d.jpg"],
            "flow_v": ["y_%d.jpg", "y/frame_%d.jpg", "y/img_%d.jpg", "y/%d.jpg"],
        },
    ),
}


def numbered(name: str) -> tuple[Names, int] | None:
    """How a file is named, and its number; None for one without."""
    match = _NUMBERED.fullmatch(name.removeprefix("./"))
    if match is None:
        return None
    folder, prefix, digits, suffix = match.groups("")
    return Names(folder, prefix, len(digits), suffix), int(digits)


def choose(found: Sequence[Names], patterns: Sequence[Pattern]) -> list[Names]:
    """The first pattern's files, fewest digits first; below a common folder if that helps."""
    common = os.path.commonpath([names.folder for names in found]) if found else ""
    for top in dict.fromkeys(("", common)):
        for pattern in patterns:
            fitting = sorted(names for names in found if pattern.fits(names, top))
            if fitting:
                return fitting
    return []
