"""Small frame trees in EPIC's layout, with real JPEGs, for tests that go through packing and loading."""

import csv
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = ["narration_id", "participant_id", "video_id", "start_frame", "stop_frame", "verb"]


@dataclass(frozen=True)
class Video:
    """A video to write: `id` like P01_02 (two RGB frames a flow frame) or P01_102 (one)."""

    id: str
    num_frames: int = 40
    height: int = 64
    width: int = 96
    clips: tuple[tuple[int, int, int], ...] = ((1, 20, 0), (21, 40, 1))  # start, stop, label
    tar: bool = False

    @property
    def participant(self) -> str:
        return self.id.split("_")[0]

    @property
    def stride(self) -> int:
        return 1 if len(self.id.split("_")[1]) == 3 else 2


def write_video(root: Path, video: Video, seed: int = 0) -> None:
    """Write one video's frames as folders or .tar files."""
    rng = np.random.default_rng((seed, *video.id.encode()))
    num_flow = -(-video.num_frames // video.stride)
    size = (video.height, video.width)
    rgb = {f"frame_{n:010d}.jpg": picture(rng, (*size, 3)) for n in range(1, video.num_frames + 1)}
    flow = {f"{p}/frame_{n:010d}.jpg": picture(rng, size) for p in "uv" for n in range(1, num_flow + 1)}
    for kind, files in (("rgb_frames", rgb), ("flow_frames", flow)):
        folder = root / video.participant / kind / video.id
        (write_tar if video.tar else write_folder)(folder, files)


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_tar(folder: Path, files: dict[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder.with_name(folder.name + ".tar"), "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def picture(rng: np.random.Generator, shape: tuple[int, ...]) -> bytes:
    """A JPEG of smooth random colours: coarse noise, enlarged, so that it is neither flat nor static."""
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, *shape[2:]), dtype=np.uint8))
    stream = io.BytesIO()
    coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def write_annotations(path: Path, videos: list[Video]) -> Path:
    """Write X-Norm's six columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for video in videos:
            for number, (start, stop, label) in enumerate(video.clips):
                writer.writerow([f"{video.id}_{number}", video.participant, video.id, start, stop, label])
    return path
