"""A split of `jpeg-restarts`: plain JPEGs of the source's pixels for every reader, and the batches of `jpeg`."""

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tfrecord.reader import tfrecord_loader

from common.display import Display
from pipeline.format.split import open_split
from pipeline.format.streams import PLANES
from pipeline.loader import ClipLoader
from preprocess import pack
from preprocess.packing.verify import verify_split
from preprocess.workers import Workers
from tests.conftest import Capture, pack_tree
from tests.trees import Video, write_annotations, write_video

RESTARTS = "data.codec=jpeg-restarts"
WIDTH = 104  # grey rows of 13 MCUs, which are filled up to 14
VIDEO = Video("P01_01", width=WIDTH)


def make_tree(folder: Path, progressive: bool = False) -> Path:
    """One video's frames and annotations; `progressive`: three of its RGB frames are."""
    write_video(folder / "frames", VIDEO)
    write_annotations(folder / "train.csv", [VIDEO])
    for path in sorted(folder.glob("frames/P01/rgb_frames/P01_01/*"))[:3] if progressive else ():
        with Image.open(path) as image:
            image.save(path, "JPEG", quality=90, progressive=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_tree(tmp_path_factory.mktemp("restarts"))
    pack_tree(made, "jpeg")
    pack_tree(made, "restarts", RESTARTS)
    return made


@pytest.fixture
def split(folder: Path) -> Path:
    return folder / "restarts" / "train"


def decode(file: bytes, plane: str) -> np.ndarray:
    mode = cv2.IMREAD_COLOR if plane == "rgb" else cv2.IMREAD_GRAYSCALE
    return np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), mode))


def sources(folder: Path, split: Path) -> Iterator[tuple[int, int, str, bytes]]:
    """Clip, row and plane of each stored image, and the file that it was made of."""
    table = open_split(split).table
    frames = folder / "frames" / "P01"
    for clip in range(len(table)):
        for row, place in enumerate(range(*table.frames(clip).indices(2**31))):
            rgb, flow = (int(table.index_of(stream)[place]) for stream in ("rgb", "flow"))
            yield clip, row, "rgb", (frames / f"rgb_frames/P01_01/frame_{rgb:010d}.jpg").read_bytes()
            for plane in ("u", "v"):
                path = frames / f"flow_frames/P01_01/{plane}/frame_{flow:010d}.jpg"
                yield clip, row, f"flow_{plane}", path.read_bytes()


def test_a_reader_of_others_finds_plain_jpegs_of_the_source(folder: Path, split: Path) -> None:
    records = sorted(tfrecord_loader(str(split / "00000.tfrecord"), None, None), key=lambda one: bytes(one["clip_id"]))
    for clip, row, plane, source in sources(folder, split):
        stored = bytes(records[clip][f"{plane}/{row:03d}"])
        width = int(records[clip]["width"][0])
        assert b"\xff\xdd" in stored
        assert width == WIDTH
        np.testing.assert_array_equal(decode(stored, plane)[:, :width], decode(source, plane))
        with Image.open(io.BytesIO(stored)) as image:
            assert image.size == (WIDTH if plane == "rgb" else 112, 64)


def test_dali_decodes_what_it_reads_itself(folder: Path, split: Path) -> None:
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def, tfrecord, types

    names = [f"{plane}/005" for plane in PLANES]
    features = {name: tfrecord.FixedLenFeature((), tfrecord.string, "") for name in names}

    @pipeline_def(batch_size=2, num_threads=1, device_id=None)
    def read():
        found = fn.readers.tfrecord(
            path=str(split / "00000.tfrecord"), index_path=str(split / "00000.idx"), features=features
        )
        return tuple(fn.decoders.image(found[name], output_type=types.BGR) for name in names)

    pipeline = read()
    pipeline.build()
    images = dict(zip(names, pipeline.run(), strict=True))
    for clip, row, plane, source in sources(folder, split):
        if row == 5:
            found = np.asarray(images[f"{plane}/005"].at(clip))[:, :WIDTH]
            np.testing.assert_array_equal(found, np.broadcast_to(np.atleast_3d(decode(source, plane)), found.shape))


@pytest.mark.parametrize("decoder", ["dali", "turbojpeg"])
@pytest.mark.parametrize(
    "options", [{}, {"train": False}, {"crop_size": 64}, {"scale": (0.5, 1.0), "color": 0.3}], ids=str
)
def test_batches_are_those_of_untouched_jpegs(
    folder: Path, split: Path, decoder: str, options: dict[str, object]
) -> None:
    small = {"batch_size": 2, "num_frames": 16, "crop_size": 48, "decoder": decoder} | options
    with ClipLoader(folder / "jpeg" / "train", **small) as one, ClipLoader(split, **small) as two:
        for first, second in zip(one, two, strict=True):
            assert first.clips.tolist() == second.clips.tolist()
            assert torch.equal(first.rgb, second.rgb)
            assert torch.equal(first.flow, second.flow)


def test_the_index_says_what_wrote_it_and_the_same_input_gives_the_same_bytes(folder: Path, split: Path) -> None:
    index = open_split(split).index
    assert (index.options.codec, index.options.recoder, index.not_recoded) == ("jpeg-restarts", 1, 0)
    again = pack_tree(folder, "again", RESTARTS, "data.check=header", "data.workers=2")
    assert (again / "00000.tfrecord").read_bytes() == (split / "00000.tfrecord").read_bytes()
    assert open_split(folder / "jpeg" / "train").index.options.recoder is None
    assert verify_split(split, Workers(1), Display())[1] == []


def test_what_cannot_be_recoded_is_stored_as_it_is_and_counted(tmp_path: Path, capsys: Capture) -> None:
    folder = make_tree(tmp_path, progressive=True)
    split = pack_tree(folder, "shards", RESTARTS)
    chosen = [file for _, _, plane, file in sources(folder, split) if plane == "rgb" and b"\xff\xc2" in file[:700]]
    assert open_split(split).index.not_recoded == len(chosen) > 0
    assert f"{len(chosen)} JPEGs cannot be re-coded" in capsys.readouterr().out
    assert all(source in (split / "00000.tfrecord").read_bytes() for source in chosen)
    assert verify_split(split, Workers(1), Display())[1] == []
    small = {"batch_size": 2, "num_frames": 16, "crop_size": 48}
    with ClipLoader(pack_tree(folder, "jpeg"), **small) as one, ClipLoader(split, **small) as two:
        assert all(torch.equal(a.rgb, b.rgb) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("check", ["header", "decode"])
def test_a_damaged_file_is_reported_whatever_the_check(tmp_path: Path, capsys: Capture, check: str) -> None:
    folder = make_tree(tmp_path)
    path = folder / "frames/P01/rgb_frames/P01_01/frame_0000000001.jpg"
    whole = path.read_bytes()
    tables = whole.index(b"\xff\xc4")
    path.write_bytes(whole[: tables + 4] + b"\xee" * 100 + whole[tables + 104 :])
    with pytest.raises(AssertionError):
        pack_tree(folder, "shards", RESTARTS, f"data.check={check}")
    assert "does not decode" in capsys.readouterr().err


def test_a_short_side_is_refused(capsys: Capture) -> None:
    assert pack.main([RESTARTS, "data.raw_short_side=40"]) == 2
    assert "has no effect when data.codec is jpeg-restarts" in capsys.readouterr().err
