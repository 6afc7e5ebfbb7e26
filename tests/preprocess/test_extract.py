"""The command extract.py, from little videos to a trained model: both streams, their pairing, what can go wrong."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import eval as evaluation
import train
from configs.load import load_config
from pipeline.format.split import open_split
from pipeline.inspect import __main__ as inspect
from preprocess import extract, pack
from preprocess.sources.frames import open_video
from preprocess.videos import extract_all as extract_job
from preprocess.videos.encoding import ExtractOptions
from preprocess.videos.extract_video import VideoTask
from tests.movies import moving, turn, write_movie

ROOT = Path(__file__).parents[2]
STARTS = [(0, 0)] * 5 + [(3, 0)] * 5 + [(0, -2)] * 5  # still until frame 6, then to the right, from frame 11 on up
SMALL = ["--short-side", "0", "--quiet"]
Planes = NDArray[np.float64]  # [flow frames, u and v, H, W], pixels

Extract = Callable[..., int]


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """A video of 16 frames, in the folder of videos."""
    return write_movie(tmp_path / "videos" / "moves.mp4", moving(STARTS))


@pytest.fixture
def run(tmp_path: Path) -> Extract:
    """Extract the folder of videos by these rows into tmp_path / "own", with further options."""

    def extract_rows(
        rows: list[str], *options: str, header: str = "file,label", quiet: bool = True, name: str = "own"
    ) -> int:
        (tmp_path / "segments.csv").write_text("\n".join([header, *rows]) + "\n")
        named = [str(tmp_path / "videos"), str(tmp_path / "segments.csv"), "-o", str(tmp_path / name)]
        return extract.main([*named, "--short-side", "0", *(["--quiet"] if quiet else []), *options])

    return extract_rows


def read_flow(folder: Path, video: str, bound: float = 20) -> Planes:
    with tarfile.open(folder / f"own/flow_frames/{video}.tar") as archive:
        planes = [[_image(archive, f"./{plane}/{name}") for plane in "uv"] for name in _numbers(archive)]
    return (np.array(planes, np.float64) - 127.5) / 127.5 * bound


def _numbers(archive: tarfile.TarFile) -> list[str]:
    return sorted({name.removeprefix("./u/") for name in archive.getnames() if name.startswith("./u/")})


def _image(archive: tarfile.TarFile, name: str) -> NDArray[np.uint8]:
    member = archive.extractfile(name)
    assert member is not None
    return np.asarray(Image.open(io.BytesIO(member.read())))


def medians(planes: Planes) -> list[tuple[float, float]]:
    """The usual motion of each flow frame, (right, down) to half a pixel."""
    found = np.median(planes, axis=(2, 3))
    return [(round(2 * u) / 2 + 0.0, round(2 * v) / 2 + 0.0) for u, v in found.tolist()]


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_flow_frames_are_the_motion_between_the_rgb_frames_that_stride_and_dilation_pair(
    stride: int, dilation: int, movie: Path, run: Extract, tmp_path: Path
) -> None:
    assert run(["moves.mp4,x"], "--stride", str(stride), "--dilation", str(dilation)) == 0
    begins = range(0, len(STARTS) + 1 - dilation, stride)  # RGB frames, from 0, that have one to move to
    expected = [tuple(float(n) for n in np.sum(STARTS[begin : begin + dilation], axis=0)) for begin in begins]
    expected += expected[-1:] * (-(-16 // stride) - len(expected))
    assert medians(read_flow(tmp_path / "own/frames", "moves")) == expected
    video = open_video(str(tmp_path / "own/frames"), "own", "moves")
    assert (video.stride, video.last_rgb, video.last_flow) == (stride, 16, -(-16 // stride))


def test_motion_beyond_the_bound_is_clipped_and_said(movie: Path, run: Extract, tmp_path: Path, capsys) -> None:
    assert run(["moves.mp4,x"], "--bound", "1.5") == 0
    record = json.loads((tmp_path / "own/frames/own/extracted/moves.json").read_text())
    # u in a third of the frames, v in another: of six thirds of the components, two.
    assert record["clipped"] == pytest.approx(1 / 3, abs=0.03)
    assert np.median(read_flow(tmp_path / "own/frames", "moves", 1.5)[7, 0]) == pytest.approx(1.5, abs=0.02)


def test_rgb_frames_are_the_video_s_own(movie: Path, run: Extract, tmp_path: Path) -> None:
    assert run(["moves.mp4,x"]) == 0
    with tarfile.open(tmp_path / "own/frames/own/rgb_frames/moves.tar") as archive:
        assert archive.getnames() == [f"./frame_{n:010d}.jpg" for n in range(1, 17)]
        for number, pixels in enumerate(moving(STARTS), 1):
            found = _image(archive, f"./frame_{number:010d}.jpg")
            assert np.abs(found.astype(int) - pixels).mean() < 4


def test_a_turned_video_is_extracted_upright_with_its_flow(run: Extract, tmp_path: Path) -> None:
    turn(write_movie(tmp_path / "videos/phone.mp4", moving([(3, 0)] * 5)))
    assert run(["phone.mp4,x"]) == 0
    assert read_flow(tmp_path / "own/frames", "phone").shape == (6, 2, 96, 64)
    assert set(medians(read_flow(tmp_path / "own/frames", "phone"))) == {(0.0, 3.0)}  # right became down


def test_videos_named_like_epic_s_keep_the_stride_that_was_asked_for(run: Extract, tmp_path: Path) -> None:
    write_movie(tmp_path / "videos/P01_01.mp4", moving([(1, 0)] * 15))
    assert run(["P01_01.mp4,x"], "--stride", "1") == 0
    assert open_video(str(tmp_path / "own/frames"), "own", "own-P01_01").stride == 1


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_stride_of_the_shortest_videos_is_told_from_their_counts(
    count: int, stride: int, run: Extract, tmp_path: Path
) -> None:
    write_movie(tmp_path / "videos/short.mp4", moving([(1, 0)] * (count - 1)))
    assert run(["short.mp4,x"], "--stride", str(stride)) == 0
    video = open_video(str(tmp_path / "own/frames"), "own", "short")
    assert (video.stride, video.last_rgb) == (stride, count)


@pytest.mark.slow
def test_from_videos_to_a_trained_model(tmp_path: Path, run: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        steps = [(2, 0) if number % 2 else (0, 2)] * 19
        write_movie(tmp_path / f"videos/day{number // 3}/{number}.mp4", moving(steps, 64, 64, seed=number))
    rows = [
        f"day{n // 3}/{n}.mp4,{begin},{begin + 0.4:g},{'right' if n % 2 else 'down'}"
        for n in range(6)
        for begin in (0, 0.4)
    ]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "segments.csv").write_text("\n".join(["file,start,stop,label", *rows]))
    options = ["--short-side", "0", "--workers", "1", "--ratio", "0.5", "0.25", "0.25"]
    assert extract.main(["videos", "segments.csv", "-o", "own", *options]) == 0
    clips = [row for split in ("train", "val", "test") for row in rows_of(Path(f"own/annotations/{split}.csv"))]
    assert sorted(row["narration_id"] for row in clips) == [
        f"day{n // 3}-{n}_{clip}" for n in range(6) for clip in (0, 1)
    ]
    for row in clips:
        number, clip = int(row["video_id"][-1]), int(row["narration_id"][-1])
        assert (row["start_frame"], row["stop_frame"]) == [("1", "10"), ("11", "20")][clip]
        assert (row["verb"], row["verb_class"]) == [("down", "0"), ("right", "1")][number % 2]
    small = ["clip.num_frames=8", "clip.crop_size=48", "loader.batch_size=2"]
    small += ["loader.num_threads=1", "model.width=0.05", "model.hidden_size=8", "train.epochs=1"]
    assert pack.main(["-c", "own/config.yaml", "data.workers=1", *small]) == 0
    assert len(open_split("own/shards/train").table.clip_id) == 6
    assert inspect.main(["-c", "own/config.yaml", "--split", "test", "--raw", "-o", "sheet.png", *small]) == 0
    assert train.main(["-c", "own/config.yaml", "--quiet", *small]) == 0
    checkpoint = ["--checkpoint", "runs/own/best.pt", "--views", "2", "--crops", "3"]
    assert evaluation.main(["-c", "runs/own/config.yaml", *checkpoint]) == 0
    assert len(rows_of(Path("runs/own/test-2x3/predictions.csv"))) == 2


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_processes(
    bad: list[str], run: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_movie(tmp_path / "videos/more.mp4", moving([(1, 1)] * 15))
    rows = [*bad, "more.mp4,0,0.5,y"]
    assert run(rows, "--on-bad", "skip", "--workers", "2", header=TIMES) == 0
    alone = {name: content for name, (content, _) in archives(tmp_path / "own").items()}
    shutil.rmtree(tmp_path / "own")
    monkeypatch.setattr("preprocess.workers.SMALL_JOB_BYTES", 0)
    assert run(rows, "--on-bad", "skip", "--workers", "2", header=TIMES) == 0
    assert {name: content for name, (content, _) in archives(tmp_path / "own").items()} == alone


# Again, and what is in the way


def archives(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and times of all archives below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.tar")
    }


def test_what_is_there_is_kept_and_what_is_new_is_added(movie: Path, run: Extract, tmp_path: Path) -> None:
    assert run(["moves.mp4,x"]) == 0
    before = archives(tmp_path / "own")
    shutil.copy(movie, movie.with_name("more.mp4"))
    assert run(["moves.mp4,x", "more.mp4,y"], "--ratio", "1", "0", "0") == 0
    after = archives(tmp_path / "own")
    assert before.items() <= after.items()
    for stream in ("rgb_frames", "flow_frames"):
        assert after[f"frames/own/{stream}/more.tar"][0] == after[f"frames/own/{stream}/moves.tar"][0]
    assert [row["verb"] for row in rows_of(tmp_path / "own/annotations/train.csv")] == ["x", "y"]


def test_frames_outlive_their_video(movie: Path, run: Extract, tmp_path: Path) -> None:
    assert run(["moves.mp4,x"]) == 0
    movie.unlink()
    assert run(["moves.mp4,y"]) == 0
    assert rows_of(tmp_path / "own/annotations/train.csv")[0]["verb"] == "y"


def test_a_video_that_changed_or_whose_frames_did_is_done_again(
    movie: Path, run: Extract, tmp_path: Path, capsys
) -> None:
    assert run(["moves.mp4,x"]) == 0
    flow = tmp_path / "own/frames/own/flow_frames/moves.tar"
    whole = flow.read_bytes()
    flow.write_bytes(whole[:1000])
    assert run(["moves.mp4,x"]) == 0
    assert flow.read_bytes() == whole
    write_movie(movie, moving([(1, 1)] * 9))
    assert run(["moves.mp4,x"]) == 0
    assert read_flow(tmp_path / "own/frames", "moves").shape[0] == 10


def test_a_killed_run_leaves_no_half_video_and_the_next_one_finishes(movie: Path, run: Extract, tmp_path: Path) -> None:
    write_movie(movie.with_name("later.mp4"), moving([(1, 0)] * 9))  # the smaller one
    rows = ["moves.mp4,x", "later.mp4,y"]
    (tmp_path / "segments.csv").write_text("\n".join(["file,label", *rows]))
    code = (
        "import os, sys, tarfile; from preprocess import extract\n"
        "add = tarfile.TarFile.addfile\n"
        "def die(self, member, data):\n"
        "    if 'later' in str(self.fileobj.name) and member.name.endswith('9.jpg'): os._exit(9)\n"
        "    add(self, member, data)\n"
        "tarfile.TarFile.addfile = die; extract.main(sys.argv[1:])"
    )
    named = [str(tmp_path / "videos"), str(tmp_path / "segments.csv"), "-o", str(tmp_path / "own"), *SMALL]
    assert subprocess.run([sys.executable, "-c", code, *named], cwd=ROOT).returncode == 9
    frames = tmp_path / "own/frames/own"
    assert sorted(path.name for path in frames.rglob("*.tar")) == ["moves.tar", "moves.tar"]
    assert list(frames.rglob(".later*.tmp"))
    assert run(rows) == 0
    assert sorted(path.name for path in frames.rglob("*.json")) == ["later.json", "moves.json"]
    assert not list(frames.rglob(".*.tmp"))


def test_other_options_are_refused_with_both_values(movie: Path, run: Extract, tmp_path: Path, capsys) -> None:
    assert run(["moves.mp4,x"]) == 0
    before = archives(tmp_path / "own")
    assert run(["moves.mp4,x"], "--bound", "8", "--stride", "2") == 1
    assert "was made with other options: bound was 20.0, is 8.0, stride was 1, is 2; name" in capsys.readouterr().err
    assert archives(tmp_path / "own") == before
    marker = json.loads((tmp_path / "own/frames/extract.json").read_text())
    assert marker["options"] == ExtractOptions(short_side=0).model_dump()


def test_frames_of_another_kind_are_not_mixed_in(movie: Path, run: Extract, tmp_path: Path, capsys) -> None:
    (tmp_path / "own/frames/P01/rgb_frames").mkdir(parents=True)
    assert run(["moves.mp4,x"]) == 1
    assert "frames: holds files that this command did not write; name a new folder" in capsys.readouterr().err


@pytest.fixture
def bad(movie: Path) -> list[str]:
    """Rows of which the first alone can be used."""
    videos = movie.parent
    write_movie(videos / "cut.mp4", moving([(1, 0)] * 19), movflags="faststart")
    (videos / "cut.mp4").write_bytes((videos / "cut.mp4").read_bytes()[:2500])
    write_movie(videos / "one.mp4", moving([]))
    (videos / "empty.mp4").touch()
    files = ("moves", "cut", "one", "empty", "none", "../moves")
    return [f"{file}.mp4,0,0.5,x" for file in files] + ["moves.mp4,0.5,9,x"]


TIMES = "file,start,stop,label"


def test_all_that_is_bad_is_in_one_message_and_nothing_is_annotated(
    bad: list[str], run: Extract, tmp_path: Path, capsys
) -> None:
    assert run(bad, header=TIMES) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: 6 videos or rows cannot be used:\n")
    for file, why in {
        "cut.mp4": "is cut off: ",
        "one.mp4": "has 1 frames; flow over --dilation 1 needs one more than that",
        "empty.mp4": "cannot be read as a video",
        "none.mp4": "is missing",
        "../moves.mp4": "leads outside the folder of videos",
    }.items():
        assert f"{tmp_path / 'videos' / file}: {why}" in said
    assert "segments.csv:8: moves.mp4: stop: found 9 s; the video ends at 0.64 s" in said
    assert not (tmp_path / "own/annotations").exists()
    assert [path.name for path in (tmp_path / "own").rglob("*.tar")] == ["moves.tar", "moves.tar"]


def test_bad_ones_can_be_left_out(bad: list[str], run: Extract, tmp_path: Path) -> None:
    assert run(bad, "--on-bad", "skip", header=TIMES) == 0
    assert [row["narration_id"] for row in rows_of(tmp_path / "own/annotations/train.csv")] == ["moves_0"]


def test_a_rate_makes_varying_frames_regular_which_else_are_noted(run: Extract, tmp_path: Path, capsys) -> None:
    write_movie(tmp_path / "videos/varies.mkv", moving([(1, 0)] * 5), times=[0, 40, 80, 240, 280, 320])
    assert run(["varies.mkv,0.1,0.3,x"], "--fps", "25", header=TIMES) == 0
    motions = medians(read_flow(tmp_path / "own/frames", "varies"))
    assert [right for right, _ in motions] == [1, 1, 0, 0, 0, 1, 1, 1, 1]
    row = rows_of(tmp_path / "own/annotations/train.csv")[0]
    assert (row["start_frame"], row["stop_frame"]) == ("4", "8")  # of 0.12 to 0.28 s
    assert run(["varies.mkv,x"], quiet=False, name="all") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "varies.mkv: 40 to 160 ms between frames, usually 40: its flow varies with them; --fps 25" in said


def test_a_folder_of_frames_gets_the_flow_of_the_video_that_it_came_from(
    movie: Path, run: Extract, tmp_path: Path, capsys
) -> None:
    folder = movie.with_name("frames")
    folder.mkdir()
    for number, pixels in enumerate(moving(STARTS), 1):
        Image.fromarray(pixels).save(folder / f"img_{number:05d}.jpg", quality=95)
    (folder / "0.jpg").symlink_to("nowhere")  # is passed over
    rows = ["moves.mp4,1,16,x", "frames,1,16,x"]
    assert run(rows, "--ratio", "1", "0", "0", header="file,start_frame,stop_frame,label") == 0
    expected = [(float(right), float(down)) for right, down in STARTS]
    assert medians(read_flow(tmp_path / "own/frames", "frames")) == [*expected, expected[-1]]
    with tarfile.open(tmp_path / "own/frames/own/rgb_frames/frames.tar") as archive:
        stored = archive.extractfile("./frame_0000000003.jpg")
        assert stored is not None
        assert stored.read() == (folder / "img_00003.jpg").read_bytes()
    before = archives(tmp_path / "own")
    assert run(rows, "--ratio", "1", "0", "0", header="file,start_frame,stop_frame,label") == 0
    assert archives(tmp_path / "own") == before
    Image.fromarray(moving(STARTS)[0]).save(folder / "img_00016.jpg")
    assert run(rows, "--ratio", "1", "0", "0", header="file,start_frame,stop_frame,label") == 0
    assert archives(tmp_path / "own") != before


def test_seconds_of_a_folder_of_frames_need_a_rate(movie: Path, run: Extract, tmp_path: Path, capsys) -> None:
    folder = movie.with_name("frames")
    folder.mkdir()
    for number, pixels in enumerate(moving(STARTS), 1):
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    assert run(["frames,0.2,0.6,x"], header=TIMES) == 1
    assert "a folder of frames has no seconds; count frames (start_frame, stop_frame), or say its --fps" in (
        capsys.readouterr().err
    )
    shutil.rmtree(tmp_path / "own")
    assert run(["frames,0.2,0.6,x"], "--fps", "10", header=TIMES) == 0
    row = rows_of(tmp_path / "own/annotations/train.csv")[0]
    assert (row["start_frame"], row["stop_frame"]) == ("3", "6")


def test_a_failed_video_is_never_taken_for_a_done_one(run: Extract, tmp_path: Path, capsys) -> None:
    (tmp_path / "videos").mkdir()
    whole = write_movie(tmp_path / "whole.ts", moving([(1, 0)] * 1), codec="libx264").read_bytes()
    (tmp_path / "videos/a.ts").write_bytes(whole * 9)  # restarts at every second frame
    for _ in range(2):
        assert run(["a.ts,x"]) == 1
        assert "has times in disorder at 8 of 18 frames; give it new ones" in capsys.readouterr().err
    assert not list((tmp_path / "own").rglob("*.tar"))
    assert not list((tmp_path / "own").rglob("a.json"))


def test_what_was_mended_is_said_and_kept(run: Extract, tmp_path: Path, capsys) -> None:
    write_movie(tmp_path / "videos/a.avi", moving([(1, 0)] * 15), codec="libx264")
    assert run(["a.avi,x"], quiet=False) == 0
    said = "its presentation times run backwards or are missing; decoding times are taken"
    assert f"note: a.avi: {said}" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "own/frames/own/extracted/a.json").read_text())["notes"] == [said]


def test_a_numbering_goes_on_where_another_set_s_ended(movie: Path, run: Extract, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id,key\n0,zoom\n1,cut\n")
    assert run(["moves.mp4,cut", "moves.mp4,add"], "--classes", str(tmp_path / "classes.csv")) == 0
    written = (tmp_path / "own/annotations/classes.csv").read_text()
    assert written == "id,key\n0,zoom\n1,cut\n2,add\n"
    rows = rows_of(tmp_path / "own/annotations/train.csv")
    assert [(row["verb"], row["verb_class"]) for row in rows] == [("cut", "1"), ("add", "2")]
    assert load_config(tmp_path / "own/config.yaml").model.num_classes == 3


def test_what_may_be_wrong_with_labels_and_splits_is_said(movie: Path, run: Extract, tmp_path: Path, capsys) -> None:
    shutil.copy(movie, movie.with_name("other.mp4"))
    assert run(["moves.mp4,Pour", "other.mp4,pour"], quiet=False, name="own data") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "note: 'Pour' and 'pour' are two classes; write them alike if they are one" in said
    assert re.search(r"note: no training clips of [Pp]our: no video of it can be spared", said)
    assert f"next: python preprocess/pack.py -c '{tmp_path}/own data/config.yaml'" in said


def test_one_long_video_gets_all_cores_and_many_get_one_each(tmp_path: Path) -> None:
    def threads(*sizes: int) -> list[int]:
        files = [f"{n}.mp4" for n in range(len(sizes))]
        todo = {file: VideoTask(Path(file), tmp_path, "own", file, ExtractOptions()) for file in files}
        tasks = extract_job.share_out(todo, dict(zip(files, sizes, strict=True)), num_cores=8)
        assert [sizes[files.index(file)] for file in tasks] == sorted(sizes, reverse=True)
        assert [task.slot for task in tasks.values()] == list(range(len(sizes)))
        return [tasks[file].num_threads for file in files]

    assert threads(1000) == [8]
    assert threads(*[100] * 20) == [1] * 20
    assert threads(100, 700) == [1, 7]


@pytest.mark.slow
def test_progress_counts_frames_with_a_rate(
    movie: Path, run: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    shutil.copy(movie, movie.with_name("more.mp4"))
    monkeypatch.setattr("preprocess.workers.SMALL_JOB_BYTES", 0)
    monkeypatch.setattr(extract_job, "PLAIN_OFTEN", 0.0)
    assert run(["moves.mp4,x", "more.mp4,x"], "--workers", "2", quiet=False) == 0
    said = capsys.readouterr().out
    assert re.search(r"extract  32/32 frames  \d+\.\d frames/s  2/2 videos", said)
    assert not list((tmp_path / "own").rglob(".frames*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bound", "0"], "--bound: found 0.0; allowed: above 0"),
        (["--fps", "-1"], "--fps: found -1.0; allowed: above 0"),
        (["--quality", "101"], "--quality: found 101; allowed: 1 to 100"),
        (["--ratio", "0", "1", "0"], "--ratio: found [0.0, 1.0, 0.0]; allowed: three shares, TRAIN above 0"),
    ],
)
def test_options_out_of_range_are_refused(options: list[str], message: str, movie: Path, run: Extract, capsys) -> None:
    assert run(["moves.mp4,x"], *options) == 2
    assert message in capsys.readouterr().err


def test_frame_numbers_and_another_rate_do_not_go_together(movie: Path, run: Extract, capsys) -> None:
    assert run(["moves.mp4,1,9,x"], "--fps", "10", header="file,start_frame,stop_frame,label") == 2
    assert "--fps: " in capsys.readouterr().err


def test_without_the_extra_it_is_one_message(movie: Path, tmp_path: Path) -> None:
    (tmp_path / "segments.csv").write_text("file,label\nmoves.mp4,x\n")
    code = "import sys; sys.modules['av'] = None; from preprocess.extract import main; sys.exit(main(sys.argv[1:]))"
    named = [str(tmp_path / "videos"), str(tmp_path / "segments.csv"), "-o", str(tmp_path / "own")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *named], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install '.[extract]'" in done.stderr
    assert "Traceback" not in done.stderr
