"""What a sheet shows of a clip is what the model sees, and both streams show the same place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.files import atomic_write
from pipeline.inspect.sheet import Sheet, find_moving
from pipeline.loader import ClipLoader
from preprocess import pack
from preprocess.scenes.discs import HEIGHT, WIDTH, disc_masks
from preprocess.scenes.tree import SynthTree, write_tree

ROOT = Path(__file__).parents[3]
LOADER = {"batch_size": 1, "num_frames": 8, "crop_size": 48, "prefetch": 1}


def sheet_of(split: Path, clip: int, epoch: int = 0, **options: object) -> Sheet:
    with ClipLoader(split, **{**LOADER, **options}) as loader:
        return Sheet.of(loader, loader.load([clip], epoch), whole=True)


def test_it_shows_the_pixels_that_training_sees_in_that_epoch(split: Path) -> None:
    with ClipLoader(split, **LOADER) as loader:
        list(loader)
        batch = next(iter(loader))  # of epoch 1
        shown = sheet_of(split, int(batch.clips[0]), epoch=1)
        np.testing.assert_array_equal(shown.rgb, batch.rgb[0].permute(1, 2, 3, 0).numpy())


def test_loading_a_clip_does_not_move_the_order(split: Path) -> None:
    with ClipLoader(split, **LOADER) as loader, ClipLoader(split, **LOADER) as untouched:
        loader.load([5], epoch=9)
        assert [b.clips.tolist() for b in loader] == [b.clips.tolist() for b in untouched]


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_the_crop_lies_in_the_whole_frame_where_the_window_is_drawn(split: Path, mirror: float) -> None:
    sheet = sheet_of(split, 2, mirror=mirror)
    view = sheet.view
    rows, columns = slice(view.top, view.top + view.side), slice(view.left, view.left + view.side)
    window = sheet.whole_rgb[:, rows, columns]
    np.testing.assert_array_equal(sheet.rgb, window[:, :, ::-1] if mirror else window)
    if not mirror:  # a mirror turns motion, and so the colours, round
        np.testing.assert_array_equal(sheet.flow, sheet.whole_flow[:, rows, columns])


def test_what_moves_is_what_differs_from_the_camera() -> None:
    flow = torch.full((2, 2, 20, 20), 140, dtype=torch.uint8)  # the camera pans
    flow[:, 0, 5:10, 5:10] = 200
    moving = find_moving(flow)
    assert moving[0].sum() == 25
    assert moving[0, 5:10, 5:10].all()
    assert not moving[1].any()


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> tuple[SynthTree, Path]:
    """The demo's data in small, and its packed test split, one video of each year's kind."""
    folder = tmp_path_factory.mktemp("synthetic")
    tree = write_tree(folder / "frames", videos=(1, 1, 2), clips=4, workers=1)
    with atomic_write(folder / "config.yaml", "w") as file:
        file.write("name: test\n")
    overrides = (f"data.annotations={{test: [{tree.annotations['test']}]}}", "data.preset=none", "data.workers=1")
    data = (f"data.frames={tree.frames}", f"data.shards={folder / 'shards'}", "data.frames_per_clip=8")
    assert pack.main(["-c", str(folder / "config.yaml"), "--quiet", *overrides, *data]) == 0
    return tree, folder / "shards" / "test"


def discs(tree: SynthTree, sheet: Sheet, frame: int) -> NDArray[np.bool_]:
    """Where RGB frame `frame` of the sheet's video has discs, in the sheet's window."""
    video = next(video for video in tree.videos if video.video_id == sheet.video_id)
    position, within = divmod(frame - 1, video.options.frames)
    scene = video.clips()[position][0]
    inside = disc_masks(scene, within // video.stride).reshape(HEIGHT, WIDTH) > 0.5
    view = sheet.view
    window = inside[view.top : view.top + view.side, view.left : view.left + view.side]
    return window[:, ::-1] if view.mirror else window


@pytest.mark.parametrize("clip", [0, 1, 4, 5])
def test_the_outline_lies_on_the_discs_of_its_own_moment_and_of_no_other(
    synthetic: tuple[SynthTree, Path], clip: int
) -> None:
    tree, split = synthetic
    sheet = sheet_of(split, clip, crop_size=128)
    overlaps = np.zeros((8, 8))  # of what moves in column i with the discs of column j, over their union
    for i, moving in enumerate(sheet.moving):
        for j, frame in enumerate(sheet.alignment.rgb.tolist()):
            disc = discs(tree, sheet, frame)
            overlaps[i, j] = (moving & disc).sum() / (moving | disc).sum()
    assert overlaps.argmax(axis=1).tolist() == list(range(8))
    assert overlaps.diagonal().min() > 0.8
    assert overlaps[~np.eye(8, dtype=bool)].mean() < 0.6
