"""Clips in memory are those that extract.py and pack.py store, to the byte."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.format.split import open_split
from pipeline.reader import ClipReader
from preprocess import extract, pack
from preprocess.videos.clip_reader import EncodedClip, VideoClips
from preprocess.videos.decode import VideoError
from preprocess.videos.encoding import ExtractOptions
from preprocess.videos.extract_all import read_extraction
from tests.movies import moving, turn, write_movie

STEPS = [(3, 0), (0, -2), (1, 1), (0, 0)] * 10  # 41 frames


def pack_videos(
    folder: Path, rows: list[str], *options: str, header: str = "file,start_frame,stop_frame,label"
) -> None:
    (folder / "segments.csv").write_text("\n".join([header, *rows]) + "\n")
    named = [str(folder / "videos"), str(folder / "segments.csv"), "-o", str(folder / "own"), "--ratio", "1", "0", "0"]
    assert extract.main([*named, "--quiet", *options]) == 0
    assert pack.main(["-c", str(folder / "own/config.yaml"), "data.workers=1"]) == 0


def stored_clips(folder: Path) -> dict[str, tuple[list[int], EncodedClip]]:
    """By id, the numbers of a packed clip's RGB frames and what is stored of them."""
    split = open_split(folder / "own/shards/train")
    reader, table = ClipReader(split, ("rgb", "flow")), split.table
    found = {}
    for clip, clip_id in enumerate(table.clip_id.tolist()):
        frames = np.arange(table.num_frames[clip])
        streams = reader.read(clip, frames)
        rgb, u, v = ([bytes(file) for file in plane] for plane in (*streams["rgb"], *streams["flow"]))
        found[clip_id.decode()] = (table.rgb_index[table.frames(clip)].tolist(), EncodedClip(rgb, u, v))
    return found


@pytest.mark.parametrize(
    "options",
    [
        ["--short-side", "0"],
        ["--short-side", "40", "--stride", "2", "--dilation", "3", "--bound", "8", "--flow-quality", "80"],
        ["--short-side", "0", "--stride", "2", "--dilation", "2"],
        ["--short-side", "0", "--dilation", "4", "--quality", "60"],
    ],
)
def test_clips_in_memory_are_those_that_are_packed(options: list[str], tmp_path: Path) -> None:
    path = turn(write_movie(tmp_path / "videos/a.mp4", moving(STEPS)))
    spans = [(1, 20), (5, 41), (5, 5), (38, 41), (41, 41)]  # the last ones end after the last flow
    pack_videos(tmp_path, [f"a.mp4,{first},{last},x" for first, last in spans], *options)
    made_with = read_extraction(tmp_path / "own/frames")
    assert made_with is not None
    stored = stored_clips(tmp_path)
    assert [(numbers[0], numbers[-1]) for numbers, _ in stored.values()] == spans
    for num_threads in (1, 3):
        video = VideoClips(path, made_with.options, num_threads)
        clips = list(video.read([np.array(numbers) for numbers, _ in stored.values()]))
        assert clips == [clip for _, clip in stored.values()]
    some = np.array([3, 9, 17])  # frames of a clip, as a model takes them
    whole = stored["a_0"][1]
    assert list(video.read([some])) == [EncodedClip(*([plane[n - 1] for n in some] for plane in whole))]


def test_seconds_and_another_rate_are_those_of_the_data(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "videos/a.avi", moving(STEPS), codec="libx264")
    pack_videos(tmp_path, ["a.avi,0.4,1.2,x"], "--fps", "10", "--short-side", "32", header="file,start,stop,label")
    made_with = read_extraction(tmp_path / "own/frames")
    assert made_with is not None
    video = VideoClips(path, made_with.options)
    record = json.loads((tmp_path / "own/frames/own/extracted/a.json").read_text())
    assert (video.num_frames, video.seconds, video.notes) == (17, record["times"], record["notes"])
    ((numbers, clip),) = stored_clips(tmp_path).values()
    assert numbers == list(range(5, 13))
    assert list(video.read([np.array(numbers)])) == [clip]


def test_reading_stops_after_the_last_frame_that_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = VideoClips(write_movie(tmp_path / "a.mp4", moving(STEPS)), ExtractOptions(short_side=0))
    computed = []
    monkeypatch.setattr("preprocess.videos.encoding.share_clipped", lambda *_: computed.append(1) or 0.0)
    assert len(list(video.read([np.array([10, 11])]))) == 1
    assert len(computed) == 2


def test_a_folder_of_frames_has_clips_too(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    for number, pixels in enumerate(moving(STEPS), 1):
        Image.fromarray(pixels).save(tmp_path / f"day/{number}.jpg")
    video = VideoClips(tmp_path / "day", ExtractOptions(short_side=0))
    assert (video.num_frames, video.seconds) == (41, None)
    (clip,) = video.read([np.array([2, 40])])
    assert clip.rgb == [(tmp_path / f"day/{number}.jpg").read_bytes() for number in (2, 40)]


def test_a_video_too_short_for_the_flow_is_refused(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mp4", moving([(1, 0)] * 2))
    with pytest.raises(VideoError, match="has 3 frames; flow needs 4, as it was made for the data"):
        VideoClips(path, ExtractOptions(dilation=3))
