"""Which clips stand in for corrupt ones: a function of seed, epoch and bytes, resumed or shared out."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.batch import Batch
from pipeline.format.split import open_split
from pipeline.loader import ClipLoader
from pipeline.sampler import epoch_order, pass_over
from pipeline.views import ViewOptions, draw_view
from tests.conftest import Packer
from tests.pipeline.loading import damaged_copy
from tests.trees import Video

OPTIONS: dict[str, Any] = {"num_frames": 8, "crop_size": 48, "temporal": "jitter", "on_corrupt": "skip", "seed": 7}
DAMAGED = [(0, 3), (2, 0), (2, 23), (3, 11), (7, 12)]  # clip, frame: seed 7 shows damage of {2}, {3}, {2, 7}
NUM_CLIPS, NUM_FRAMES, EPOCHS = 8, 24, 3
Handed = tuple[int, bytes]  # a clip with all its pixels


@given(st.data(), st.integers(1, 12))
def test_a_stand_in_is_the_first_sound_clip_after_it_round_the_end(data: st.DataObject, num_clips: int) -> None:
    order = np.array(data.draw(st.permutations(range(num_clips))))
    corrupt = data.draw(st.sets(st.integers(0, num_clips - 1), max_size=num_clips - 1))
    assert pass_over(order, corrupt).tolist() == plainly(order, corrupt)


def plainly(order: NDArray[np.int64], corrupt: set[int]) -> list[int]:
    doubled = [*order.tolist(), *order.tolist()]
    return [next(clip for clip in doubled[start:] if clip not in corrupt) for start in range(len(order))]


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def splits(
    request: pytest.FixtureRequest, packer: Packer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A split with 24 stored frames a clip, and a copy with damaged ones."""
    clips = tuple((1 + NUM_FRAMES * n, NUM_FRAMES * (n + 1), 0) for n in range(2))
    videos = [Video(f"P0{n}_101", 2 * NUM_FRAMES, clips=clips) for n in range(1, 5)]
    whole = packer(videos, "data.frames_per_clip=all", f"data.codec={request.param}")
    damage = [(clip, frame, number % 3, 500) for number, (clip, frame) in enumerate(DAMAGED)]
    return whole, damaged_copy(whole, tmp_path_factory.mktemp("damaged"), damage)


@pytest.fixture(scope="module")
def expected(splits: tuple[Path, Path]) -> list[list[int]]:
    """By epoch, the clips in the order in which they are due, worked out from what each view shows."""
    table = open_split(splits[0]).table
    assert set(np.diff(table.first_frame)) == {NUM_FRAMES}
    epochs = []
    for epoch in range(EPOCHS):
        order = epoch_order(NUM_CLIPS, seed=7, epoch=epoch, train=True)
        corrupt = {clip for clip in range(NUM_CLIPS) if shows_damage(clip, epoch, table.height[0], table.width[0])}
        assert 0 < len(corrupt) < NUM_CLIPS
        epochs.append(plainly(order, corrupt))
    return epochs


def shows_damage(clip: int, epoch: int, height: int, width: int) -> bool:
    options = ViewOptions(8, 48, "jitter")
    size = {"num_stored": NUM_FRAMES, "height": int(height), "width": int(width)}
    view = draw_view(clip, options, **size, seed=7, epoch=epoch, train=True)
    return any((clip, frame) in DAMAGED for frame in view.frames.tolist())


def handed(batches: Iterator[Batch]) -> list[Handed]:
    found: list[Handed] = []
    for batch in batches:
        for index, clip in enumerate(batch.clips.tolist()):
            found.append((clip, batch.rgb[index].numpy().tobytes() + batch.flow[index].numpy().tobytes()))
    return found


def epochs_of(loader: ClipLoader, skipped: list[str], epochs: int = EPOCHS) -> list[list[Handed]]:
    with loader:
        found = [handed(iter(loader)) for _ in range(epochs)]
        skipped += loader.skipped
    return found


Uninterrupted = tuple[list[list[Handed]], list[str]]


@pytest.fixture(scope="module")
def uninterrupted(splits: tuple[Path, Path]) -> Uninterrupted:
    skipped: list[str] = []
    return epochs_of(ClipLoader(splits[1], 2, **OPTIONS), skipped), skipped


def test_the_next_sound_clip_of_the_order_stands_in_as_the_epoch_shows_it(
    splits: tuple[Path, Path], expected: list[list[int]], uninterrupted: Uninterrupted
) -> None:
    found, skipped = uninterrupted
    assert [[clip for clip, _ in epoch] for epoch in found] == expected
    sound = [dict(epoch) for epoch in epochs_of(ClipLoader(splits[0], 2, **OPTIONS), [])]
    assert all(
        epoch[clip] == pixels for epoch, handed_out in zip(sound, found, strict=True) for clip, pixels in handed_out
    )
    ids = ClipLoader(splits[0], 2, **OPTIONS).clip_ids
    orders = [epoch_order(NUM_CLIPS, seed=7, epoch=epoch, train=True).tolist() for epoch in range(EPOCHS)]
    replaced = [
        a for order, epoch in zip(orders, expected, strict=True) for a, b in zip(order, epoch, strict=True) if a != b
    ]
    assert skipped == [ids[clip] for clip in replaced]


@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("num_clips", range(1, EPOCHS * NUM_CLIPS, 2))
def test_resuming_at_any_batch_goes_on_as_if_never_stopped(
    splits: tuple[Path, Path], uninterrupted: Uninterrupted, num_clips: int, prefetch: int
) -> None:
    whole, skipped = uninterrupted
    taken, options = (num_clips - 1) // 2, OPTIONS | {"prefetch": prefetch}
    with ClipLoader(splits[1], 2, **options) as loader:
        before = handed(islice((batch for _ in range(EPOCHS) for batch in loader), taken))
        state, skipped_before = loader.state_dict(), list(loader.skipped)
    with ClipLoader(splits[1], 2, **options) as loader:
        loader.load_state_dict(state)
        after = handed(batch for _ in range(loader.epoch, EPOCHS) for batch in loader)
        assert skipped_before + loader.skipped == skipped
    assert before + after == [pair for epoch in whole for pair in epoch]


def test_ranks_share_what_a_single_one_hands_out(splits: tuple[Path, Path], uninterrupted: Uninterrupted) -> None:
    skipped: list[str] = []
    ranks = [epochs_of(ClipLoader(splits[1], 1, rank=rank, world_size=2, **OPTIONS), skipped) for rank in range(2)]
    for epoch, whole in enumerate(uninterrupted[0]):
        assert [pair for pairs in zip(ranks[0][epoch], ranks[1][epoch], strict=True) for pair in pairs] == whole
    assert sorted(skipped) == sorted(uninterrupted[1])


def test_a_damaged_clip_is_still_an_error_after_it_was_one(splits: tuple[Path, Path]) -> None:
    """Caught and gone on from, an error must not have become a silent skip."""
    with ClipLoader(splits[1], 2, **(OPTIONS | {"on_corrupt": "error"})) as loader:
        for _ in range(2):
            loader.load_state_dict({**loader.state_dict(), "epoch": 0, "position": 0})
            with pytest.raises(Exception, match="is damaged"):
                list(loader)
        assert loader.skipped == []
