"""Advice where frames are missing: what is there instead, and the one command that helps."""

import glob
import os
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from itertools import islice
from typing import ParamSpec

from common.errors import listed
from preprocess.sources.layouts import LAYOUTS, SUFFIX, Names, choose, numbered
from preprocess.sources.tar import COMPRESSIONS

Given = ParamSpec("Given")

MAX_NAMES = 3  # that are told of a folder
MAX_LISTED = 100_000  # entries of a folder
MAX_FOLDERS = 20  # inside one
_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
_ELSEWHERE = ("{0}/{1}/{2}", "{0}/*/{1}/{2}", "*/{0}/{1}/{2}", "*/{0}/*/{1}/{2}")  # EPIC-55's rgb/train/P01/P01_01


def _if_it_can(explain: Callable[Given, str]) -> Callable[Given, str]:
    """Say nothing where the system denies access."""

    @wraps(explain)
    def quiet(*args: Given.args, **kwargs: Given.kwargs) -> str:
        try:
            return explain(*args, **kwargs)
        except OSError:
            return ""

    return quiet


@_if_it_can
def explain_root(root: str, participants: Sequence[str]) -> str:
    """Why `root` cannot be data.frames; empty where a participant's folder is in it."""
    if not os.path.isdir(root):
        what = "is no folder" if os.path.exists(root) else "no such folder"
        return f"{what}; {_what_is_in(_nearest(root))}"
    if any(os.path.exists(f"{root}/{name}") for name in participants):
        return ""
    deeper = sorted({os.path.dirname(path) for name in participants for path in _glob(root, f"*/{name}")})
    way_out = f"; they are one folder deeper: data.frames={shlex.quote(deeper[0])}" if deeper else ""
    return f"no folder of a participant ({listed(participants, MAX_NAMES)}) is in it; {_what_is_in(root)}{way_out}"


@_if_it_can
def explain_missing(root: str, path: str) -> str:
    """What is there instead of a video's folder or .tar below `root`."""
    nearest = _nearest(path)
    wanted = os.path.relpath(path, nearest).split(os.sep)[0]
    name = os.path.basename(path)
    return (
        _packed(path)
        or _same_name(nearest, wanted)
        or _another_layout(root, os.path.relpath(path, root).split(os.sep)[0], name)
        or _elsewhere(root, path)
        or _what_is_in(nearest)
    )


@_if_it_can
def explain_names(path: str, plane: str, found: Mapping[Names, int] | None) -> str:
    """What a folder or .tar (`found`: its files by name) holds in place of a plane's frames."""
    counts = Counter(found) if found is not None else _survey(path)
    if not counts:
        return explain_gap(path) or _what_is_in(path)
    names, number = counts.most_common(1)[0]
    what = f"{os.path.abspath(path)} holds {number:,} files named {names}"
    for key, layout in LAYOUTS.items():
        if any(pattern.fits(files) for files in counts for pattern in layout.patterns(plane)):
            return f"{what}: data.layout={key} reads them"
    if names.suffix != SUFFIX:
        return f"{what}; {_other_suffix(path, names)}"
    deeper = [n for n in counts if n.folder and choose([n._replace(folder="")], LAYOUTS["epic"].patterns("rgb"))]
    if plane == "rgb" and len(deeper) == 1:
        return f"{what}, one folder deeper: mv {_quoted(f'{path}/{deeper[0].folder}')}/* {_quoted(path)}/"
    return f"{what}; allowed: {', '.join(str(p) for p in LAYOUTS['epic'].patterns(plane))}, or another data.layout"


@_if_it_can
def explain_tar(path: str) -> str:
    """What helps with an archive that is none."""
    with open(path, "rb") as file:
        start = file.read(8)
    packed = next((name for magic, name in COMPRESSIONS.items() if start.startswith(magic)), None)
    if packed == "gzip":
        return f"it is packed: mv {_quoted(path)} {_quoted(path)}.gz && gunzip {_quoted(path)}.gz"
    return ""


def _nearest(path: str) -> str:
    """The lowest folder above a path that exists."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _what_is_in(folder: str) -> str:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, MAX_LISTED))
    except OSError as error:
        return f"{folder} cannot be listed ({error.strerror})"
    folder = os.path.abspath(folder)
    return f"{folder} holds {listed(names, MAX_NAMES)}" if names else f"{folder} is empty"


def _packed(path: str) -> str:
    """An archive of another kind beside."""
    for ending in _ENDINGS:
        if os.path.isfile(archive := f"{path}{ending}"):
            unpack = {".tar.gz": "gunzip", ".zip": f"unzip -d {_quoted(path)}"}.get(ending)
            command = f"{unpack} {_quoted(archive)}" if unpack else f"tar -xf {_quoted(archive)} -C FOLDER"
            return f"{os.path.abspath(archive)} is there, which is packed: {command}"
    return ""


def _same_name(folder: str, wanted: str) -> str:
    """A name that looks the same: another Unicode form, or other capitals."""
    for entry in islice(os.scandir(folder), MAX_LISTED):
        name = entry.name.removesuffix(".tar")
        if name != wanted and len({unicodedata.normalize("NFC", text).casefold() for text in (name, wanted)}) == 1:
            kind = "in another Unicode form" if name.casefold() != wanted.casefold() else "in other capitals"
            move = f"mv {_quoted(entry.path)} {_quoted(f'{folder}/{wanted}{entry.name[len(name) :]}')}"
            return f"{name} is there {kind}: {move}"
    return ""


def _another_layout(root: str, participant: str, video: str) -> str:
    """A folder of the video that another layout would find."""
    for folder in (f"{root}/{participant}/{video}", f"{root}/{video}"):
        counts = _survey(folder) if os.path.isdir(folder) else Counter()
        for key, layout in LAYOUTS.items():
            if key != "epic" and all(choose(list(counts), layout.patterns(p)) for p in ("rgb", "flow_u")):
                return f"{os.path.abspath(folder)} is there: data.layout={key} reads it"
    return ""


def _elsewhere(root: str, path: str) -> str:
    """The video in a tree of EPIC-55's or another form."""
    participant, kind, video = ["", "", *os.path.relpath(path, root).split(os.sep)][-3:]
    stream = kind.removesuffix("_frames")
    for pattern in _ELSEWHERE:
        form = pattern.format(stream, glob.escape(participant), glob.escape(video))
        for found in (*_glob(root, form), *_glob(root, f"{form}.tar")):
            target = f"{path}{found[len(found.removesuffix('.tar')) :]}"
            link = f"mkdir -p {_quoted(os.path.dirname(path))} && ln -s {_quoted(found)} {_quoted(target)}"
            return f"it is in another place, {found}: {link}"
    return ""


def _glob(root: str, pattern: str) -> list[str]:
    return sorted(islice(glob.iglob(f"{glob.escape(os.path.abspath(root))}/{pattern}"), MAX_FOLDERS))


def explain_gap(path: str) -> str:
    """What helps where frames are missing from a folder: a .tar beside it."""
    if os.path.isdir(path) and os.path.isfile(f"{path}.tar"):
        return (
            f"the folder counts, not {os.path.abspath(path)}.tar beside it; tar -xf {_quoted(path)}.tar -C "
            f"{_quoted(path)} completes it"
        )
    return ""


def _survey(path: str) -> Counter[Names]:
    """How many files are named alike, in a folder and those inside it."""
    return Counter(parsed[0] for name in _names(path) if (parsed := numbered(name)) is not None)


def _names(path: str) -> Iterator[str]:
    folders = [""]
    with os.scandir(path) as entries:
        for entry in islice(entries, MAX_LISTED):
            if entry.is_dir():
                folders.append(entry.name)
            else:
                yield entry.name
    for folder in folders[1 : 1 + MAX_FOLDERS]:
        with os.scandir(f"{path}/{folder}") as entries:
            yield from (f"{folder}/{entry.name}" for entry in islice(entries, MAX_LISTED))


def _other_suffix(path: str, names: Names) -> str:
    where = f"cd {_quoted(f'{path}/{names.folder}'.rstrip('/'))} && for f in *{names.suffix}; do"
    if names.suffix.lower() in (".jpg", ".jpeg"):
        return f'{where} mv "$f" "${{f%{names.suffix}}}{SUFFIX}"; done'
    return f'frames are JPEGs here: {where} ffmpeg -i "$f" -q:v 2 "${{f%{names.suffix}}}{SUFFIX}"; done'


def _quoted(path: str) -> str:
    return shlex.quote(os.path.abspath(path))
