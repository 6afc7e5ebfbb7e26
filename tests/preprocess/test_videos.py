"""A video's frames: upright, in one size, with their moments; what is damaged is said."""

import wave
from pathlib import Path

import numpy as np
import pytest

from preprocess.videos import Frame, VideoError, at_rate, read_frames
from tests.movies import moving, turn, write_movie

STILL = [(0, 0)]


def test_frames_come_in_order_with_their_pixels_and_moments(tmp_path: Path) -> None:
    expected = moving([(3, 1)] * 9)
    frames = list(read_frames(write_movie(tmp_path / "a.mp4", expected), 0))
    assert [round(frame.seconds, 6) for frame in frames] == [round(0.04 * n, 6) for n in range(10)]
    for frame, pixels in zip(frames, expected, strict=True):
        assert np.abs(frame.pixels.astype(int) - pixels).mean() < 3
    assert np.abs(frames[0].pixels.astype(int) - expected[5]).mean() > 10


def test_a_rate_that_varies_keeps_each_frame_s_own_moment(tmp_path: Path) -> None:
    times = [100, 140, 300, 333, 700]
    path = write_movie(tmp_path / "a.mkv", moving([(1, 0)] * 4), times=times)
    assert [round(1000 * frame.seconds) for frame in read_frames(path, 0)] == [0, 40, 200, 233, 600]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(64, 96, (48, 72)), (96, 64, (72, 48)), (64, 64, (48, 48)), (64, 114, (48, 86)), (32, 64, (48, 96))],
)
def test_the_short_side_is_as_asked_and_the_long_one_even(
    height: int, width: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    path = write_movie(tmp_path / "a.mp4", moving(STILL, height, width))
    assert {frame.pixels.shape for frame in read_frames(path, 48)} == {(*expected, 3)}


def test_a_video_is_turned_as_its_header_says(tmp_path: Path) -> None:
    lying = moving(STILL)
    frames = list(read_frames(turn(write_movie(tmp_path / "a.mp4", lying)), 0))
    assert frames[0].pixels.shape == (96, 64, 3)
    clockwise = lying[0].transpose(1, 0, 2)[:, ::-1]  # what was at the left is at the top
    assert np.abs(frames[0].pixels.astype(int) - clockwise).mean() < 3


def test_a_video_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mp4", moving([(3, 1)] * 19), movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(VideoError, match=r"is damaged at 0\.\d\d s, frame 1\d|is cut off: 1\d frames of the 20"):
        list(read_frames(path, 0))


def test_a_damaged_video_is_refused_with_the_moment(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mp4", moving([(3, 1)] * 19))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = b"Z" * 400
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"is damaged at 0\.\d\d s, frame \d+"):
        list(read_frames(path, 0))


def test_a_video_too_small_for_flow_is_refused_unless_it_is_scaled_up(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.mp4", moving(STILL, 8, 16))
    with pytest.raises(VideoError, match="is of 16 x 8 pixels; allowed: 12 and more a side"):
        list(read_frames(path, 0))
    assert next(read_frames(path, 32)).pixels.shape == (32, 64, 3)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(VideoError, match="cannot be read as a video"):
        list(read_frames(tmp_path / "a.mp4", 0))
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    with pytest.raises(VideoError, match="has no video stream"):
        list(read_frames(tmp_path / "a.wav", 0))


def test_a_playlist_does_not_lead_to_other_files(tmp_path: Path) -> None:
    write_movie(tmp_path / "elsewhere/secret.mp4", moving(STILL))
    (tmp_path / "videos").mkdir()
    playlist = tmp_path / "videos/list.m3u8"
    lines = ("#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:1,", "../elsewhere/secret.mp4", "#EXT-X-ENDLIST", "")
    playlist.write_text("\n".join(lines))
    with pytest.raises(VideoError, match="cannot be read as a video"):
        list(read_frames(playlist, 0))


def test_a_rate_takes_the_frame_that_is_shown_at_each_moment() -> None:
    frames = [Frame(seconds, np.full((1, 1, 3), n, np.uint8)) for n, seconds in enumerate((0.0, 0.04, 0.2, 0.3))]
    taken = list(at_rate(frames, 10))
    assert [round(frame.seconds, 6) for frame in taken] == [0.0, 0.1, 0.2, 0.3]
    assert [frame.pixels[0, 0, 0] for frame in taken] == [0, 1, 2, 3]
    assert [frame.pixels[0, 0, 0] for frame in at_rate(frames, 20)] == [0, 1, 1, 1, 2, 2, 3]
    assert list(at_rate(frames, None)) == frames
