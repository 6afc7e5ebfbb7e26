"""A run that was trained on videos of its own, tiny, with all that decides a pixel set to something else than usual."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.movies import moving, turn, write_movie

OPTIONS = ("--short-side", "48", "--stride", "2", "--dilation", "2", "--bound", "8")
SMALL = (
    *("data.workers=1", "data.frames_per_clip=12", "clip.num_frames=8", "clip.crop_size=32", "clip.scale=[0.6,0.9]"),
    *("clip.rescale_flow=true", "loader.batch_size=2", "loader.num_threads=1", "model.width=0.05"),
    *("model.hidden_size=8", "train.epochs=1", "train.tensorboard=false", "train.device=cpu"),
)
SPANS = ((0.0, 0.8), (0.6, 1.62), (0.2, 0.24))  # seconds of each video; the second ends with it, the third is a frame


class Own(NamedTuple):
    """A folder with videos/, segments.csv, own/ and a run."""

    folder: Path
    run: Path

    @property
    def video(self) -> Path:
        return self.folder / "videos/1.mp4"

    @property
    def table(self) -> Path:
        return self.folder / "segments.csv"


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """Three videos of 40 frames, of which one is turned, extracted, packed and trained on for an epoch."""
    import train  # here: this takes seconds, and few tests need it
    from preprocess import extract, pack

    folder = tmp_path_factory.mktemp("own")
    rows = ["file,start,stop,label,split"]
    for number in range(3):
        steps = [(number, 1 - number)] * 39
        path = write_movie(folder / f"videos/{number}.mp4", moving(steps, 64, 80, seed=number))
        if number == 1:
            turn(path)
        names = ("pour", "stir", "pour") if number else ("stir", "pour", "stir")
        split = "val" if number == 2 else "train"
        rows += [f"{number}.mp4,{a},{b},{name},{split}" for (a, b), name in zip(SPANS, names, strict=True)]
    (folder / "segments.csv").write_text("\n".join(rows))
    arguments = [str(folder / "videos"), str(folder / "segments.csv"), "-o", str(folder / "own"), "--quiet"]
    assert extract.main([*arguments, "--workers", "1", *OPTIONS]) == 0
    config = ["-c", str(folder / "own/config.yaml")]
    assert pack.main([*config, *SMALL, "--quiet"]) == 0
    assert train.main([*config, *SMALL, f"runs={folder / 'runs'}", "name=own", "--quiet"]) == 0
    return Own(folder, folder / "runs/own")
