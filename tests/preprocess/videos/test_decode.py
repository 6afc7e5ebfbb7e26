"""A video's frames: upright, in one size, with their times; what is damaged is said."""

import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from preprocess.videos.decode import Movie, VideoError
from tests.movies import MATRICES, moving, trim, turn, write_movie

STILL = [(0, 0)]
FIRST = {"movflags": "faststart"}
CASES = Path(__file__).parents[3] / "shared/cases"


def read(path: Path, short_side: int = 0, fps: float | None = None) -> tuple[list[NDArray[np.uint8]], list[float]]:
    """All frames and their times, in seconds to six decimals."""
    movie = Movie(path, short_side, fps)
    frames = [frame.pixels for frame in movie.frames()]
    return frames, [round(time, 6) for time in movie.seconds]


def even(count: int, rate: float = 25) -> list[float]:
    return [round(n / rate, 6) for n in range(count)]


def test_frames_come_in_order_with_their_pixels_and_times(tmp_path: Path) -> None:
    expected = moving([(3, 1)] * 9)
    frames, seconds = read(write_movie(tmp_path / "a.mp4", expected))
    assert seconds == even(10)
    for frame, pixels in zip(frames, expected, strict=True):
        assert np.abs(frame.astype(int) - pixels).mean() < 3
    assert np.abs(frames[0].astype(int) - expected[5]).mean() > 10


def test_a_rate_that_varies_keeps_each_frame_s_own_time(tmp_path: Path) -> None:
    times = [100, 140, 300, 333, 700]
    path = write_movie(tmp_path / "a.mkv", moving([(1, 0)] * 4), times=times)
    assert read(path)[1] == [0, 0.04, 0.2, 0.233, 0.6]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts", "flv", "h264"])
def test_b_frames_have_their_times_in_every_container(ending: str, codec: str, tmp_path: Path) -> None:
    if codec == "mpeg4" and ending in ("flv", "h264"):
        pytest.skip("holds no MPEG-4")
    path = write_movie(tmp_path / f"a.{ending}", moving([(1, 0)] * 29), rate=50, codec=codec, b_frames=2)
    assert read(path)[1] == pytest.approx(even(30, 50), abs=1e-3)  # .mkv and .flv count milliseconds


def test_joined_streams_go_on_from_one_to_the_next(tmp_path: Path) -> None:
    for first, second in ((12, 12), (20, 10), (10, 20)):
        parts = [
            write_movie(tmp_path / f"{n}.ts", moving([(1, 0)] * (n - 1)), codec="libx264") for n in (first, second)
        ]
        joined = tmp_path / "joined.ts"
        joined.write_bytes(b"".join(part.read_bytes() for part in parts))
        movie = Movie(joined)
        assert len(list(movie.frames())) == first + second
        assert [round(time, 6) for time in movie.seconds] == even(first + second)
        assert f"restarts at frame {first + 1} " in movie.notes[0]


def test_a_leap_does_not_make_a_rate_write_more_than_the_video_has(tmp_path: Path) -> None:
    times = [40 * n + (86_400_000 if n >= 5 else 0) for n in range(10)]
    path = write_movie(tmp_path / "a.mkv", moving([(1, 0)] * 9), times=times)
    frames, seconds = read(path, fps=50)
    assert len(frames) == 19
    assert seconds == even(19, 50)


def test_time_begins_with_the_container_where_sound_begins_first(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mkv", moving([(1, 0)] * 9), sound=400)
    assert read(path)[1] == [round(0.4 + time, 6) for time in even(10)]
    assert read(path, fps=10)[1] == [0.4, 0.5, 0.6, 0.7]


def test_an_edit_list_hides_what_was_trimmed(tmp_path: Path) -> None:
    expected = moving([(3, 1)] * 19)
    path = trim(write_movie(tmp_path / "whole.mp4", expected, codec="libx264"), tmp_path / "a.mp4", start=14)
    frames, seconds = read(path)
    assert seconds == even(6)
    assert np.abs(frames[0].astype(int) - expected[14]).mean() < 4


def test_an_avi_whose_frames_stand_still_is_whole(tmp_path: Path) -> None:
    times = [0, 40, 80, 2000, 2040, 9000]  # its writer puts an empty frame where none is new
    path = write_movie(tmp_path / "a.avi", moving([(1, 0)] * 5), times=times, codec="mpeg4")
    assert read(path)[1] == [time / 1000 for time in times]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(64, 96, (48, 72)), (96, 64, (72, 48)), (64, 64, (48, 48)), (64, 114, (48, 86)), (32, 64, (48, 96))],
)
def test_the_short_side_is_as_asked_and_the_long_one_even(
    height: int, width: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    path = write_movie(tmp_path / "a.mp4", moving(STILL, height, width))
    assert {frame.shape for frame in read(path, 48)[0]} == {(*expected, 3)}


@pytest.mark.parametrize("how", MATRICES)
def test_a_video_is_turned_and_mirrored_as_its_header_says(how: str, tmp_path: Path) -> None:
    lying = moving(STILL)
    frames = read(turn(write_movie(tmp_path / "a.mp4", lying), how))[0]
    a, b, c, d = MATRICES[how]
    expected = np.zeros((96, 64, 3) if b else (64, 96, 3), int)
    for y in range(64):  # each pixel to (a x + c y, b x + d y), from the end of an axis where that is negative
        for x in range(96):
            expected[b * x + d * y - (b + d < 0), a * x + c * y - (a + c < 0)] = lying[0][y, x]
    assert np.abs(frames[0] - expected).mean() < 3


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the case files")
@pytest.mark.parametrize("name", ["hflip", "vflip"])
def test_mirrored_videos_are_as_ffmpeg_shows_them(name: str) -> None:
    shown = np.asarray(Image.open(CASES / f"mirrored_matrix/ffmpeg_{name}.png").convert("RGB")).astype(int)
    assert np.abs(read(CASES / f"mirrored_matrix/videos/{name}.mp4")[0][0] - shown).mean() < 1


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the case files")
def test_trims_that_others_made_have_the_frames_that_are_shown() -> None:
    assert read(CASES / "edit_list_trim/videos/rest.mp4")[1] == even(48, 30)
    assert read(CASES / "edit_list_trim/videos/sign.mp4")[1] == [*even(11, 30), 0.4]


def test_a_stream_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    parts = [write_movie(tmp_path / f"{n}.ts", moving([(1, 0)] * 9, n, 2 * n), codec="libx264") for n in (64, 48)]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(VideoError, match=r"changes its size at .* frame 11, from 128 x 64 to 96 x 48 pixels; cut it"):
        read(tmp_path / "a.ts")


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi"])
def test_a_video_that_is_cut_off_is_refused(ending: str, tmp_path: Path) -> None:
    path = write_movie(tmp_path / f"a.{ending}", moving([(3, 1)] * 19), **FIRST if ending in ("mp4", "mov") else {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(VideoError, match=rf"is cut off: \d+ bytes of the {len(whole)} that it names are missing"):
        read(path)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi", "ts", "flv"])
def test_a_video_with_bytes_after_its_end_is_whole(ending: str, tmp_path: Path) -> None:
    path = write_movie(tmp_path / f"a.{ending}", moving([(3, 1)] * 19), codec="libx264")
    path.write_bytes(path.read_bytes() + b"made by a camera that signs")
    assert len(read(path)[0]) == 20


def test_a_damaged_video_is_refused_with_the_time(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mp4", moving([(3, 1)] * 19))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = b"Z" * 400
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"is damaged at 0\.\d\d s, frame \d+"):
        read(path)


def test_a_video_too_small_for_flow_is_refused_unless_it_is_scaled_up(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mp4", moving(STILL, 8, 16))
    with pytest.raises(VideoError, match="is of 16 x 8 pixels; allowed: 12 and more a side"):
        read(path)
    assert read(path, 32)[0][0].shape == (32, 64, 3)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(VideoError, match="cannot be read as a video"):
        read(tmp_path / "a.mp4")
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    with pytest.raises(VideoError, match="has no video stream"):
        read(tmp_path / "a.wav")


def test_a_playlist_does_not_lead_to_other_files(tmp_path: Path) -> None:
    write_movie(tmp_path / "elsewhere/secret.mp4", moving(STILL))
    (tmp_path / "videos").mkdir()
    playlist = tmp_path / "videos/list.m3u8"
    lines = ("#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:1,", "../elsewhere/secret.mp4", "#EXT-X-ENDLIST", "")
    playlist.write_text("\n".join(lines))
    with pytest.raises(VideoError, match="cannot be read as a video"):
        read(playlist)


def test_a_title_in_another_encoding_does_no_harm(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mp4", moving([(1, 0)] * 4))
    data = path.read_bytes()
    assert data.count(b"Lavf") == 1  # what wrote it
    path.write_bytes(data.replace(b"Lavf", b"M\xfcll"))  # Latin-1
    assert read(path)[1] == even(5)
    assert Movie(path).estimate_count() == 5
