"""Folders of frames: their order, their own bytes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocess.videos.decode import VideoError
from preprocess.videos.frame_folder import FrameFolder
from tests.movies import moving

FRAMES = moving([(3, 1)] * 11)


def write(folder: Path, pattern: str, first: int = 1, count: int = 12, **options: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        Image.fromarray(FRAMES[n]).save(folder / (pattern % (first + n)), **options)
    return folder


@pytest.mark.parametrize("pattern", ["img_%05d.jpg", "%d.JPG", "frame_%d.png", "a.b-%04d.jpeg"])
def test_frames_come_by_their_numbers(pattern: str, tmp_path: Path) -> None:
    source = FrameFolder(write(tmp_path / "day", pattern), fps=25)
    for frame, pixels in zip(source.frames(), FRAMES, strict=True):
        assert np.abs(frame.pixels.astype(int) - pixels).mean() < 4
    assert source.seconds == [n / 25 for n in range(12)]
    assert source.notes == []
    assert source.estimate_count() == 12


def test_a_jpeg_that_needs_no_change_keeps_its_bytes(tmp_path: Path) -> None:
    folder = write(tmp_path / "day", "img_%05d.jpg")
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert [frame.jpeg for frame in FrameFolder(folder).frames()] == files
    assert [frame.jpeg for frame in FrameFolder(folder, short_side=64).frames()] == files
    smaller = list(FrameFolder(folder, short_side=32).frames())
    assert {(frame.pixels.shape, frame.jpeg) for frame in smaller} == {((32, 48, 3), None)}
    assert FrameFolder(folder).seconds is None


def test_images_are_turned_as_exif_says_and_that_is_noted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # what is at the left goes to the top
    source = FrameFolder(write(tmp_path / "day", "%d.jpg", exif=exif))
    frame = next(source.frames())
    assert frame.jpeg is None
    assert np.abs(frame.pixels.astype(int) - np.rot90(FRAMES[0], -1)).mean() < 4
    assert source.notes == ["1.jpg is to be shown turned (EXIF orientation), and so are its frames"]


def test_files_that_count_from_elsewhere_are_noted(tmp_path: Path) -> None:
    source = FrameFolder(write(tmp_path / "day", "%d.png", first=0))
    list(source.frames())
    assert source.notes == ["frame 1 is 0.png: frames count from 1, whatever the files do"]


def test_what_is_no_row_of_frames_is_refused(tmp_path: Path) -> None:
    def why(folder: Path) -> str:
        with pytest.raises(VideoError) as raised:
            list(FrameFolder(folder).frames())
        return raised.value.why

    (tmp_path / "empty").mkdir()
    assert why(tmp_path / "empty").startswith("holds no images; allowed: one row of numbered images")
    two = write(write(tmp_path / "two", "flow_x_%d.jpg"), "img_%d.jpg")
    assert why(two).startswith("holds images of 2 kinds (flow_x_*, img_*)")
    gap = write(tmp_path / "gap", "%d.jpg")
    (gap / "7.jpg").unlink()
    assert why(gap) == "has no image 7"
    assert why(write(write(tmp_path / "twice", "%d.jpg"), "%d.png")) == "has two images of one number"
    damaged = write(tmp_path / "damaged", "%d.jpg")
    (damaged / "3.jpg").write_bytes((damaged / "3.jpg").read_bytes()[:300])
    assert why(damaged).startswith("3.jpg cannot be read as an image (")
    mixed = write(tmp_path / "mixed", "%d.png")
    Image.new("RGB", (48, 32)).save(mixed / "5.png")
    assert why(mixed) == "changes its size at 5.png, from 96 x 64 to 48 x 32 pixels; one is allowed"


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "%d.jpg")
    (tmp_path / "day").mkdir()
    for path in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "day" / path.name).symlink_to(path)
    with pytest.raises(VideoError, match="holds no images"):
        list(FrameFolder(tmp_path / "day").frames())
