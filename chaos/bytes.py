"""Bytes of a packed split that are not those that were packed: `python -m chaos.bytes --mutations 2000`.

A mutation of a shard, list of offsets, frame table or index must end in one message that names the file (for a clip's
bytes also the clip) and the way out, or change nothing: the pixels of every clip, through the real loader, are compared
with those of the whole split.
"""

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from chaos.tally import Tally, fault_parser
from common.display import Display
from configs.schema import DataSection
from pipeline.format.index import ShardError
from pipeline.format.split import Split, open_split
from pipeline.loader import ClipLoader
from preprocess import pack
from preprocess.packing.verify import verify_split
from preprocess.workers import Workers
from tests.runs import CONFIG
from tests.trees import Video, write_annotations, write_video

VIDEOS = [Video("P01_01", 20, 32, 48, ((1, 8, 0), (9, 16, 1))), Video("P02_101", 20, 32, 48, ((5, 20, 2),), tar=True)]
VIEW = {"batch_size": 3, "num_frames": 8, "crop_size": 32, "train": False, "num_threads": 1, "prefetch": 1}
PAGE = 4096
SLOW = 10.0  # seconds that no mutation may take
CODECS = get_args(DataSection.model_fields["codec"].annotation)  # those that packing knows
FILES = ("00000.tfrecord", "00000.idx", "frames.npz", "index.json")
Random = np.random.Generator
Pixels = list[NDArray[np.uint8]]


def flip(data: bytearray, random: Random) -> None:
    """Change one bit."""
    data[random.integers(len(data))] ^= 1 << random.integers(8)


def truncate(data: bytearray, random: Random) -> None:
    """Cut the end off."""
    del data[random.integers(len(data)) :]


def drop(data: bytearray, random: Random) -> None:
    """Leave one byte out."""
    del data[random.integers(len(data))]


def insert(data: bytearray, random: Random) -> None:
    """Put one byte in."""
    data.insert(random.integers(len(data) + 1), random.integers(256))


def zero(data: bytearray, random: Random) -> None:
    """Lose a page, as a copy over a bad link does."""
    page = random.integers(-(-len(data) // PAGE)) * PAGE
    lost = data[page : page + PAGE]
    data[page : page + PAGE] = bytes(len(lost))


MUTATIONS: dict[str, Callable[[bytearray, Random], None]] = {
    "one bit flipped": flip,
    "the end cut off": truncate,
    "one byte missing": drop,
    "one byte too many": insert,
    "a page of zeros": zero,
}


def make_split(folder: Path, *overrides: str) -> Path:
    """Pack three small clips."""
    for video in VIDEOS:
        write_video(folder / "frames", video)
    annotations = write_annotations(folder / "train.csv", VIDEOS)
    paths = f"data.frames={folder / 'frames'}", f"data.shards={folder / 'shards'}"
    names = "data.preset=none", "data.workers=1", f"data.annotations={{train: [{annotations}]}}"
    command = ["-c", str(CONFIG), "--quiet", *paths, *names, "data.frames_per_clip=8", *overrides]
    assert pack.main(command) == 0
    return folder / "shards" / "train"


def pixels(split: Path, streams: Sequence[str]) -> Pixels:
    """Every pixel that evaluation sees of a split, stream by stream."""
    found = []
    with ClipLoader(split, **VIEW, streams=streams) as loader:  # type: ignore[arg-type]
        for batch in loader:
            found += [batch.labels.numpy(), batch.clips.numpy()]
            found += [stream.numpy() for stream in (batch.rgb, batch.flow) if stream is not None]
    return found


def same(one: Pixels, other: Pixels) -> bool:
    """Whether all arrays are equal."""
    return len(one) == len(other) and all(map(np.array_equal, one, other))


@dataclass
class Fuzz:
    """A split, a copy of it to be damaged, and what is to be seen of it."""

    whole: Path
    copy: Path
    split: Split = field(init=False)
    truth: dict[tuple[str, ...], Pixels] = field(init=False)

    def __post_init__(self) -> None:
        shutil.copytree(self.whole, self.copy)
        self.split = open_split(self.whole)
        self.truth = {streams: pixels(self.whole, streams) for streams in (("rgb", "flow"), ("flow",))}

    def try_one(self, name: str, mutate: Callable[[bytearray, Random], None], random: Random) -> tuple[str, bool]:
        """Damage the file `name`, look at what follows, and mend it; the outcome, and whether it is as it must be."""
        path = self.copy / name
        before = path.read_bytes()
        data = bytearray(before)
        mutate(data, random)
        path.write_bytes(data)
        begin = time.monotonic()
        try:
            outcome = "unchanged" if data == before else self._outcome(path, bytes(data))
        finally:
            path.write_bytes(before)
        is_right = outcome in RIGHT and time.monotonic() - begin < SLOW
        return outcome, is_right

    def _outcome(self, path: Path, data: bytes) -> str:
        """What comes of it, both streams together and one alone, of which only the frames' own CRCs are looked at."""
        outcomes = [self._seen(path, streams, data) for streams in self.truth]
        if HARMLESS in outcomes and path.name == FILES[1]:
            with Workers(1) as workers, Display(quiet=True) as display:
                found = verify_split(self.copy, workers, display)[1]
            return FOUND_LATER if found else "not even found by --verify"
        return next((outcome for outcome in outcomes if outcome not in RIGHT), outcomes[0])

    def _seen(self, path: Path, streams: tuple[str, ...], data: bytes) -> str:
        try:
            found = pixels(self.copy, streams)
        except ShardError as error:
            return self._judge(path, str(error), data)
        except Exception as error:
            return f"crashes: {error!r}"
        return HARMLESS if same(found, self.truth[streams]) else "CHANGES PIXELS WITHOUT A WORD"

    def _judge(self, path: Path, message: str, data: bytes) -> str:
        if not message.startswith(f"{path}: ") or not re.search("copy (it|the file) again|pack.py", message):
            return f"says {message!r}"
        if ": clip " not in message:
            return DETECTED
        named = re.search(r": clip (\S+) at byte", message)
        is_one = named is not None and named[1].encode() in self._damaged(path.name, data)
        return NAMED if is_one else f"names another clip: {message}"

    def _damaged(self, name: str, data: bytes) -> set[bytes]:
        """The ids of the clips in whose records bytes are other ones; the file has kept its length."""
        before = np.frombuffer((self.whole / name).read_bytes(), np.uint8)
        changed = np.flatnonzero(before != np.frombuffer(data, np.uint8))
        clips = np.searchsorted(self.split.table.record_offset, changed, side="right") - 1
        return set(self.split.table.clip_id[clips].tolist())


DETECTED = "refused when the split is opened, with the file and what to do"
NAMED = "refused as it is read, with shard, clip and what to do"
HARMLESS = "harmless: every pixel and label is the same"
FOUND_LATER = "harmless to loading, and found by `--verify`"
RIGHT = (DETECTED, NAMED, HARMLESS, FOUND_LATER, "unchanged")


def fuzz(folder: Path, codec: str, num_mutations: int, seed: int) -> Iterator[tuple[str, str, bool]]:
    """(fault, outcome, whether that is right) for so many mutations of each kind of each file of a split."""
    fuzzer = Fuzz(make_split(folder, f"data.codec={codec}"), folder / "copy")
    for file, name in enumerate(FILES):
        for number, (kind, mutate) in enumerate(MUTATIONS.items()):
            random = np.random.default_rng((seed, file, number))
            for _ in range(num_mutations):
                yield (f"{codec}, `{name}`: {kind}", *fuzzer.try_one(name, mutate, random))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the mutations and print the table."""
    parser = fault_parser("bytes", "Damage the files of a split; nothing may crash, hang or change a pixel unseen.")
    parser.add_argument("--mutations", type=int, default=2000, help="of each kind and file (default: %(default)s)")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    tally = Tally()
    for codec in CODECS:
        with tempfile.TemporaryDirectory() as folder:
            for fault, outcome, is_right in fuzz(Path(folder), codec, arguments.mutations, arguments.seed):
                tally.note(fault.partition(":")[0], outcome, None if is_right else f"{fault}: {outcome}")
    return tally.finish("bytes", arguments.write)


if __name__ == "__main__":
    sys.exit(main())
