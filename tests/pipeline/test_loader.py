"""The loader against an independent decoder, and what its users rely on: order, ranks, resuming, pixels, faults."""

import csv
import gc
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.errors import UserError
from configs import load_config
from pipeline import loader as loader_module
from pipeline.batch import Batch
from pipeline.fetcher import EncodedBatch
from pipeline.format.index import ShardError, Target
from pipeline.format.split import open_split
from pipeline.loader import ClipLoader
from pipeline.sampler import BatchPlan, epoch_order
from pipeline.views import View
from tests.conftest import ROOT, VIDEOS, Packer
from tests.pipeline.loading import assert_same_batches, clips_of, damaged_copy
from tests.trees import Video

SMALL = {"batch_size": 2, "num_frames": 16, "crop_size": 48}
pytestmark = pytest.mark.usefixtures("decoder")


Clip = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # [3, T, H, W] and [2, T, H, W]


@pytest.fixture(scope="module")
def sources(tree: Path) -> dict[str, Clip]:
    """Every stored frame of every clip, decoded by OpenCV from the source files."""
    rows = csv.DictReader((tree / "train.csv").open())
    return {row["narration_id"]: source_clip(tree, row) for row in rows}


def source_clip(tree: Path, row: dict[str, str]) -> Clip:
    video = next(video for video in VIDEOS if video.id == row["video_id"])
    numbers = np.linspace(int(row["start_frame"]), int(row["stop_frame"]), 16).astype(int)
    flow_numbers = (numbers - 1) // video.stride + 1
    rgb = np.stack([decode(tree, video, "rgb_frames", "", n)[..., ::-1] for n in numbers])  # BGR to RGB
    planes = [np.stack([decode(tree, video, "flow_frames", f"{p}/", n) for n in flow_numbers]) for p in "uv"]
    return np.moveaxis(rgb, -1, 0), np.stack(planes)


def decode(tree: Path, video: Video, kind: str, plane: str, number: int) -> NDArray[np.uint8]:
    name = f"{plane}frame_{number:010d}.jpg"
    folder = tree / "frames" / video.participant / kind / video.id
    if video.tar:
        with tarfile.open(f"{folder}.tar") as archive:
            member = archive.extractfile(f"./{name}")
            assert member is not None
            data = member.read()
    else:
        data = (folder / name).read_bytes()
    mode = cv2.IMREAD_GRAYSCALE if plane else cv2.IMREAD_COLOR
    image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    return np.asarray(image, dtype=np.uint8)


def seen(source: Clip, view: View) -> Clip:
    """What a view without resizing shows of a clip."""
    rows, columns = slice(view.top, view.top + view.side), slice(view.left, view.left + view.side)
    rgb, flow = (stream[:, view.frames][:, :, rows, columns] for stream in source)
    if view.mirror:
        rgb, flow = rgb[..., ::-1], flow[..., ::-1].copy()
        flow[0] = 255 - flow[0]
    return rgb, flow


def assert_equal_to_sources(batch: Batch, loader: ClipLoader, sources: dict[str, Clip]) -> None:
    for index, view in enumerate(batch.views):
        rgb, flow = seen(sources[loader.clip_ids[view.clip]], view)
        np.testing.assert_array_equal(batch.rgb[index].numpy(), rgb)
        np.testing.assert_array_equal(batch.flow[index].numpy(), flow)


def pixels(loader: ClipLoader, epochs: int = 1) -> dict[tuple[int, int], bytes]:
    """(epoch, clip) -> all pixels of both streams."""
    found = {}
    for epoch in range(epochs):
        for batch in loader:
            for index, clip in enumerate(batch.clips.tolist()):
                found[epoch, clip] = batch.rgb[index].numpy().tobytes() + batch.flow[index].numpy().tobytes()
    return found


# What comes out


def test_a_batch_has_the_shapes_types_and_memory_that_the_contract_names(split: Path) -> None:
    with ClipLoader(split, **SMALL) as loader:
        batch = next(iter(loader))
    assert (batch.rgb.shape, batch.rgb.dtype) == ((2, 3, 16, 48, 48), torch.uint8)
    assert (batch.flow.shape, batch.flow.dtype) == ((2, 2, 16, 48, 48), torch.uint8)
    assert batch.rgb.is_contiguous(memory_format=torch.channels_last_3d)
    assert batch.flow.is_contiguous()
    assert batch.labels.dtype == batch.clips.dtype == torch.int64
    assert batch.labels.tolist() == loader.labels[batch.clips].tolist()
    assert list(batch.targets) == ["label"]
    assert torch.equal(batch.targets["label"], batch.labels)


def test_evaluation_equals_an_independent_decoder_pixel_for_pixel(split: Path, sources: dict[str, Clip]) -> None:
    with ClipLoader(split, 3, 16, 56, train=False) as loader:
        batches = list(loader)
    for batch in batches:
        assert_equal_to_sources(batch, loader, sources)
        assert {(view.top, view.left) for view in batch.views} == {((64 - 56) // 2, (96 - 56) // 2)}
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert [clip for batch in batches for clip in batch.clips.tolist()] == list(range(8))


def test_training_equals_an_independent_decoder_pixel_for_pixel(split: Path, sources: dict[str, Clip]) -> None:
    mirrored = []
    with ClipLoader(split, **SMALL, seed=1) as loader:
        for batch in [batch for _ in range(3) for batch in loader]:
            assert_equal_to_sources(batch, loader, sources)
            mirrored += [view.mirror for view in batch.views]
    assert set(mirrored) == {True, False}


def test_fewer_frames_than_stored_are_spread_evenly(split: Path, sources: dict[str, Clip]) -> None:
    with ClipLoader(split, 2, 8, 48, train=False) as loader:
        batch = next(iter(loader))
    assert batch.views[0].frames.tolist() == [0, 2, 4, 6, 8, 10, 12, 15]
    assert_equal_to_sources(batch, loader, sources)


def test_jitter_takes_the_same_times_of_both_streams(packer: Packer, tmp_path: Path) -> None:
    split = packer(
        [Video("P01_01", 40, clips=((1, 40, 0),)), Video("P01_102", 40, clips=((1, 40, 1),))],
        "data.frames_per_clip=all",
    )
    table = open_split(split).table
    times = set()
    with ClipLoader(split, 1, 8, 48, temporal="jitter") as loader:
        for batch in [batch for _ in range(4) for batch in loader]:
            view = batch.views[0]
            assert (view.frames // 5 == np.arange(8)).all()  # one of each eighth of forty frames
            rows = table.first_frame[view.clip] + view.frames
            stride = 2 if loader.clip_ids[view.clip].startswith("P01_01_") else 1
            assert (table.flow_index[rows] == (table.rgb_index[rows] - 1) // stride + 1).all()
            times.add(tuple(view.frames.tolist()))
    assert len(times) == 8


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_one_stream_alone_is_the_same_pixels_without_the_other(split: Path, stream: str) -> None:
    with ClipLoader(split, **SMALL) as both, ClipLoader(split, **SMALL, streams=(stream,)) as alone:
        for expected, batch in zip(both, alone, strict=True):
            other = "flow" if stream == "rgb" else "rgb"
            assert getattr(batch, other) is None
            assert torch.equal(getattr(batch, stream), getattr(expected, stream))


def test_every_target_of_a_clip_comes_with_it(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_split(split)
    index = opened.index.model_copy(
        update={"targets": (Target(name="verb"), Target(name="noun", classes=("cup", "lid")))}
    )
    targets = np.stack([np.arange(8) % 3, [0, 1, -1, 1, 0, -1, 1, 0]], axis=1)
    two = replace(opened, index=index, table=replace(opened.table, targets=targets))
    monkeypatch.setattr(loader_module, "open_split", lambda *_: two)
    with ClipLoader(split, **SMALL) as loader:
        assert loader.classes == {"verb": None, "noun": ("cup", "lid")}
        for batch in loader:
            batch = batch.to(torch.device("cpu"))
            assert {name: found.dtype for name, found in batch.targets.items()} == dict.fromkeys(
                ("verb", "noun"), torch.int64
            )
            assert torch.equal(batch.labels, batch.targets["verb"])
            for column, (name, found) in enumerate(batch.targets.items()):
                assert (
                    found.tolist()
                    == targets[batch.clips, column].tolist()
                    == loader.targets[name][batch.clips].tolist()
                )


# Order, ranks, resuming


@pytest.mark.parametrize(
    "change", [{"batch_size": 4}, {"num_threads": 1}, {"prefetch": 1}, {"prefetch": 4}, {"on_corrupt": "skip"}]
)
def test_pixels_depend_on_seed_epoch_and_clip_alone(split: Path, change: dict[str, int]) -> None:
    with ClipLoader(split, **SMALL) as first, ClipLoader(split, **(SMALL | change)) as second:
        assert pixels(first, 2) == pixels(second, 2)


def test_ranks_share_the_steps_of_a_single_rank(split: Path) -> None:
    with ClipLoader(split, 4, 8, 48) as single:
        expected = pixels(single, 2)
    shares = []
    for rank in range(2):
        with ClipLoader(split, 2, 8, 48, rank=rank, world_size=2) as loader:
            shares.append(pixels(loader, 2))
    assert not shares[0].keys() & shares[1].keys()
    assert shares[0] | shares[1] == expected


@pytest.mark.parametrize("taken", [0, 1, 3, 4])
@pytest.mark.parametrize("train", [True, False])
def test_resuming_in_mid_epoch_equals_never_stopping(split: Path, taken: int, train: bool) -> None:
    def contents(batches: Iterator[Batch]) -> list[tuple[list[int], bytes]]:
        return [(b.clips.tolist(), b.rgb.numpy().tobytes()) for b in batches if b.rgb is not None]

    with ClipLoader(split, **SMALL, train=train) as whole:
        expected = contents(iter(whole)) + contents(iter(whole))
    with ClipLoader(split, **SMALL, train=train) as first:
        before = contents(islice(first, taken))
        state = first.state_dict()
    with ClipLoader(split, **SMALL, train=train) as second:
        second.load_state_dict(state)
        after = contents(iter(second)) + (contents(iter(second)))
    assert before + after == expected


def test_a_state_may_be_loaded_while_batches_are_in_flight(split: Path) -> None:
    with ClipLoader(split, **SMALL) as loader:
        state = loader.state_dict()
        expected = clips_of(loader)
        next(iter(loader))
        loader.load_state_dict(state)
        assert clips_of(loader) == expected


def test_an_epoch_left_in_the_middle_is_followed_by_the_next(split: Path) -> None:
    with ClipLoader(split, **SMALL) as loader, ClipLoader(split, **SMALL) as other:
        next(iter(loader))
        list(other)
        assert clips_of(loader) == clips_of(other)


def test_resuming_on_other_ranks_goes_on_with_the_unseen_clips(split: Path) -> None:
    with ClipLoader(split, 4, 8, 48) as loader:
        before = next(iter(loader)).clips.tolist()
        state = loader.state_dict()
    after = []
    for rank in range(2):
        with ClipLoader(split, 2, 8, 48, rank=rank, world_size=2) as loader:
            loader.load_state_dict(state)
            after += clips_of(loader)
    assert sorted(before + after) == list(range(8))


def test_balanced_epochs_resume_exactly_are_shared_by_ranks_and_show_a_clip_anew_each_time(packer: Packer) -> None:
    """Six clips of class 0 and one of each of two others, of which each gets a third of the eight places."""
    clips = tuple((16 * n + 1, 16 * n + 16, max(0, n - 5)) for n in range(8))
    folder = packer([Video("P01_01", 128, clips=clips)])
    options: dict[str, Any] = {"num_frames": 8, "crop_size": 48, "balance": 1.0}
    with ClipLoader(folder, 4, **options) as whole:
        first = next(iter(whole))
        state = whole.state_dict()
        whole.load_state_dict(state)
        expected = [*first.views, *next(iter(whole)).views]
    assert sorted(np.bincount([max(0, view.clip - 5) for view in expected])) == [2, 3, 3]
    rest = []
    for rank in range(2):
        with ClipLoader(folder, 2, **options, rank=rank, world_size=2) as half:
            half.load_state_dict(state)
            (batch,) = half
            rest += batch.views
    assert repr([*first.views, *rest]) == repr(expected)
    windows = {(view.clip, view.view_index): (view.top, view.left, view.mirror) for view in expected}
    assert len(windows) == 8
    assert len({windows[clip, number] for clip, number in windows if clip == 7}) > 1
    with ClipLoader(folder, 4, **options | {"balance": 0.0}) as other:
        with pytest.raises(UserError, match=r"is that of another loader: balance was 1.0, is None"):
            other.load_state_dict(state)


# Some of the clips


def test_some_clips_alone_are_an_epoch_of_their_own_and_look_as_they_do_among_all(split: Path) -> None:
    chosen = [6, 1, 2, 4, 7, 0]
    with ClipLoader(split, **SMALL) as all_clips, ClipLoader(split, **SMALL, clips=chosen) as some:
        assert (len(all_clips), len(some)) == (4, 3)
        seen, expected = pixels(some, epochs=2), pixels(all_clips, epochs=2)
    assert sorted(seen) == sorted((epoch, clip) for epoch in range(2) for clip in chosen)
    assert all(seen[key] == expected[key] for key in seen)


def test_the_order_of_some_clips_is_that_of_a_split_of_as_many(split: Path) -> None:
    chosen = [0, 2, 3, 5, 6, 7]
    with ClipLoader(split, **SMALL, clips=chosen) as some:
        order = clips_of(some)
    assert order == [chosen[position] for position in epoch_order(6, seed=0, epoch=0, train=True)]


def test_some_clips_are_scored_in_file_order_over_ranks_each_once(split: Path) -> None:
    found: list[int] = []
    for rank in range(2):
        with ClipLoader(split, **SMALL, train=False, rank=rank, world_size=2, clips=[5, 3, 1, 7, 6]) as loader:
            found += clips_of(loader)
    assert found == [1, 3, 7, 5, 6]  # rank 0: a batch of the first step, one of the second; rank 1: what is left


@pytest.mark.parametrize(
    ("ours", "others", "message"),
    [({"seed": 1}, {"seed": 2}, "seed was 1, is 2"), ({"clips": [0, 1]}, {"clips": [1, 2]}, r"clips was \[0, 1\], is")],
)
def test_the_state_of_another_loader_is_refused(
    split: Path, ours: dict[str, Any], others: dict[str, Any], message: str
) -> None:
    with ClipLoader(split, **SMALL, **ours) as one, ClipLoader(split, **SMALL, **others) as two:
        with pytest.raises(UserError, match=message):
            two.load_state_dict(one.state_dict())


@pytest.mark.parametrize("clips", [[], [-1, 2], [8]])
def test_clips_that_are_not_there_are_refused(split: Path, clips: list[int]) -> None:
    with pytest.raises(ValueError, match=r"each from 0 to 7"):
        ClipLoader(split, **SMALL, clips=clips)


# Several views of a clip


def test_each_view_shows_its_own_frames_and_window(split: Path, sources: dict[str, Clip]) -> None:
    with ClipLoader(split, 4, 8, 48, train=False, views=2, crops=3, clips=[1, 6]) as loader:
        batches = list(loader)
        assert len(loader) == len(batches) == 3
    for batch in batches:
        assert_equal_to_sources(batch, loader, sources)
        assert batch.view_ids.tolist() == [view.view_index for view in batch.views]
    seen = [pair for b in batches for pair in zip(b.clips.tolist(), b.view_ids.tolist(), strict=True)]
    assert seen == [(clip, view_index) for clip in (1, 6) for view_index in range(6)]
    views = [view for batch in batches for view in batch.views]
    assert len({(view.frames.tobytes(), view.left) for view in views}) == 6


# Sizes and augmentations


def test_scaling_up_equals_an_independent_bilinear_resize(packer: Packer) -> None:
    split = packer([Video("P01_01", height=40, width=96), Video("P02_01", height=64, width=96)])
    with ClipLoader(split, 4, 16, 40, train=False) as plain, ClipLoader(split, 4, 16, 56, train=False) as scaled:
        source, batch = next(iter(plain)), next(iter(scaled))
    assert [view.side for view in batch.views] == [40, 40, 56, 56]
    for time in range(16):
        frame = source.rgb[0, :, time].permute(1, 2, 0).numpy()
        expected = cv2.resize(frame, (56, 56), interpolation=cv2.INTER_LINEAR)
        found = batch.rgb[0, :, time].permute(1, 2, 0).numpy()
        assert np.abs(expected.astype(int) - found.astype(int)).max() <= 1


def test_scale_jitter_resizes_windows_of_many_sides(split: Path) -> None:
    with ClipLoader(split, 2, 8, 48, scale=(0.5, 1.0), mirror=0.0) as loader:
        batches = [batch for _ in range(3) for batch in loader]
    assert len({view.side for batch in batches for view in batch.views}) > 5
    assert all(32 <= view.side <= 64 for batch in batches for view in batch.views)
    assert all(batch.flow is not None and batch.flow.shape[-2:] == (48, 48) for batch in batches)


def test_flow_values_follow_the_scale_only_on_demand(split: Path) -> None:
    with (
        ClipLoader(split, 1, 8, 64, scale=(0.5, 0.5), mirror=0.0) as as_it_is,
        ClipLoader(split, 1, 8, 64, scale=(0.5, 0.5), mirror=0.0, rescale_flow=True) as rescaled,
    ):
        for kept, scaled in zip(as_it_is, rescaled, strict=True):  # a window of 32 pixels, enlarged twice
            expected = ((kept.flow.double() - 127.5) * 2 + 127.5).clamp(0, 255)
            assert (scaled.flow - expected).abs().max() <= 0.5
            assert torch.equal(kept.rgb, scaled.rgb)


def test_colour_jitter_changes_rgb_alone_and_a_clip_as_one(split: Path) -> None:
    with ClipLoader(split, **SMALL) as plain, ClipLoader(split, **SMALL, color=0.4) as jittered:
        for before, after in zip(plain, jittered, strict=True):
            assert torch.equal(before.flow, after.flow)
            assert not torch.equal(before.rgb, after.rgb)
            for index, view in enumerate(after.views):
                expected = color_twist(before.rgb[index].double(), *view.color)
                assert (after.rgb[index] - expected).abs().mean() < 1


def color_twist(rgb: torch.Tensor, brightness: float, contrast: float, saturation: float) -> torch.Tensor:
    """Saturation about the luma of ITU-R BT.601, then contrast about 128, then brightness; rgb [3, T, H, W]."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.double).view(3, 1, 1, 1)
    gray = (rgb * weights).sum(0, keepdim=True)
    saturated = gray + saturation * (rgb - gray)
    return (brightness * (128 + contrast * (saturated - 128))).clamp(0, 255)


def test_streams_that_are_not_synchronized_are_cropped_and_mirrored_apart(
    split: Path, sources: dict[str, Clip]
) -> None:
    found = []
    options = SMALL | {"temporal": "jitter", "num_frames": 8}
    with (
        ClipLoader(split, **options) as together,
        ClipLoader(split, **options, synchronized=False) as apart,
        ClipLoader(split, **options, synchronized=False, streams=("flow",)) as flow_alone,
    ):
        views = flow_views(apart)
        for one, two, alone in zip(together, apart, flow_alone, strict=True):
            assert torch.equal(one.rgb, two.rgb)  # the first stream is as it is without the option
            assert torch.equal(two.flow, alone.flow)
            for index, (flow, view) in enumerate(zip(next(views), two.views, strict=True)):
                assert flow.frames.tolist() == view.frames.tolist()  # of the same times
                expected = seen(sources[apart.clip_ids[view.clip]], flow)[1]
                np.testing.assert_array_equal(two.flow[index].numpy(), expected)
                found.append((flow.mirror == view.mirror, (flow.top, flow.left) == (view.top, view.left)))
        with pytest.raises(UserError, match="synchronized was None, is False"):
            apart.load_state_dict(together.state_dict())
    assert {same for same, _ in found} == {True, False}
    assert not all(same for _, same in found)


def flow_views(loader: ClipLoader) -> Iterator[tuple[View, ...]]:
    for plan in loader.sampler.batches(0, 0):
        yield loader.fetcher.fetch(plan).views_of["flow"]


def test_in_evaluation_all_streams_are_synchronized(split: Path) -> None:
    options = SMALL | {"train": False}
    with ClipLoader(split, **options) as one, ClipLoader(split, **options, synchronized=False) as two:
        assert_same_batches(one, two, epochs=1)


# Faults


@pytest.fixture
def damaged(split: Path, tmp_path: Path) -> Path:
    """A copy with one byte changed: in the RGB of the seventh frame of the fourth clip."""
    return damaged_copy(split, tmp_path, [(3, 6, 0, 100)])


@pytest.mark.parametrize(
    ("num_frames", "on_corrupt", "where"),
    [(16, "error", "its record"), (8, "error", "rgb/006"), (16, "skip", "its record")],  # evaluation never skips
)
def test_a_changed_byte_stops_with_the_clip(damaged: Path, num_frames: int, on_corrupt: str, where: str) -> None:
    with ClipLoader(damaged, 2, num_frames, 48, train=False, on_corrupt=on_corrupt) as loader:
        with pytest.raises(ShardError, match=rf"00000\.tfrecord: clip {loader.clip_ids[3]} .*: {where} is damaged"):
            list(loader)


def test_damage_in_bytes_that_are_not_read_is_harmless(damaged: Path, split: Path) -> None:
    with (
        ClipLoader(damaged, **SMALL, train=False, streams=("flow",)) as one,
        ClipLoader(split, **SMALL, train=False, streams=("flow",)) as two,
    ):
        assert_same_batches(one, two, epochs=1)


def test_skip_trains_on_the_next_of_the_order_and_counts(damaged: Path, split: Path) -> None:
    with ClipLoader(damaged, 2, 16, 48, on_corrupt="skip") as loader:
        handed_out = clips_of(loader)
        assert set(loader.skipped) == {loader.clip_ids[3]}
    with ClipLoader(split, **SMALL) as untouched:
        order = clips_of(untouched)
    position = order.index(3)
    assert handed_out == [*order[:position], order[(position + 1) % 8], *order[position + 1 :]]


def test_another_splits_files_are_refused_by_name(split: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(split, tmp_path / "val"))
    ClipLoader(copy, **SMALL).close()  # without a name, any split is the right one
    config = load_config(ROOT / "configs" / "xnorm.yaml", [f"data.shards={tmp_path}"])
    for opening in (lambda: ClipLoader(copy, **SMALL, name="val"), lambda: ClipLoader.from_config(config, "val")):
        with pytest.raises(ShardError, match=r"val: holds the split 'train', not 'val': its files were copied here"):
            opening()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rank": 2, "world_size": 2}, "rank: found 2, allowed: 0 to 1"),
        ({"batch_size": 0}, "batch_size: found 0: input should be greater than 0"),
        ({"crop_size": 0}, "crop_size: found 0"),
        ({"prefetch": 0}, "prefetch: found 0"),
        ({"seed": -1}, "seed: found -1"),
        ({"streams": ("depth",)}, r"streams: found \('depth',\), allowed: 'rgb' or 'flow', each once"),
        ({"streams": ()}, "streams: found"),
        ({"device": "xpu"}, r"device: found 'xpu': string should match pattern '\^\(auto\|cpu\|cuda"),
        ({"temporal": "often"}, "temporal: found 'often': input should be 'uniform' or 'jitter'"),
        ({"scale": (0.9, 0.5)}, r"scale: found \[0.9, 0.5\]; allowed: \[low, high\]"),
        ({"mirror": 2.0}, "mirror: found 2.0: input should be less than or equal to 1"),
        ({"num_thread": 2}, "num_thread: unknown; known: batch_size, num_frames"),
        ({"views": 2}, "views, crops: found 2, 1; in training, 1 and 1"),
        ({"device": "cuda:7"}, "cuda:7"),
        ({"batch_size": 8, "world_size": 2}, r"8 clips do not fill one step of 16 \(8 on each of 2 ranks\)"),
    ],
)
def test_a_wrong_argument_is_named(split: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ClipLoader(split, **(SMALL | wrong))  # type: ignore[arg-type]


def test_a_file_that_dali_refuses_is_one_line(packer: Packer) -> None:
    """Checked by its header alone, a JPEG may still have nothing to decode in it."""
    split = packer([Video("P01_01")], "data.check=header")
    with ClipLoader(split, **SMALL, train=False, decoder="dali") as loader:
        jpeg = loader.fetcher.reader.read(0, np.array([0]))["rgb"][0][0]
        broken = jpeg.copy()
        scan = broken.tobytes().find(b"\xff\xda")
        broken[scan + 4 : scan + 12] = 0
        original = loader.fetcher.fetch

        def prepare(plan: BatchPlan) -> EncodedBatch:
            prepared = original(plan)
            prepared.encoded["rgb"][0] = broken
            return prepared

        loader.fetcher.fetch = prepare  # type: ignore[method-assign]
        with pytest.raises(ShardError, match=r"clips P01_01_0, P01_01_1: \w.+; python preprocess/pack.py") as caught:
            next(iter(loader))
    assert "\n" not in str(caught.value)


def test_closing_frees_the_threads(any_split: Path) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    gc.collect()  # what other tests left behind
    before = threads()
    loader = ClipLoader(any_split, **SMALL, num_threads=4)
    next(iter(loader))
    assert threads() > before
    loader.close()
    until = monotonic() + 10  # the system lists a thread for a while after it has been joined
    while threads() > before and monotonic() < until:
        sleep(0.01)
    assert threads() == before


def test_no_more_batches_are_in_flight_than_prefetch_says(any_split: Path) -> None:
    with ClipLoader(any_split, **SMALL, prefetch=3) as loader:
        for _ in [batch for _ in range(2) for batch in loader]:
            assert len(loader._prefetcher._in_flight) == 3
        assert all(len(decoder._sent) == 3 for decoder in loader.decoders.values())


@pytest.mark.gpu
def test_gpu_batches_are_those_of_the_cpu(split: Path) -> None:
    with ClipLoader(split, **SMALL) as cpu, ClipLoader(split, **SMALL, device="cuda") as gpu:
        for expected, batch in zip(cpu, gpu, strict=True):
            assert batch.clips.tolist() == expected.clips.tolist()
            for ours, theirs in ((batch.rgb, expected.rgb), (batch.flow, expected.flow)):
                assert ours.is_cuda
                assert (ours.cpu().double() - theirs.double()).abs().mean() < 1
