"""Every message in docs/troubleshooting.md is what its situation gives, word for word."""

import csv
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from common.lock import locked
from configs import UserError
from engine import model_cost
from engine.runs.checkpoint import load_checkpoint, save_checkpoint
from engine.runtime import session
from engine.runtime.agreement import require_agreement
from engine.runtime.device import Placement
from engine.runtime.world import World
from engine.training.step import TrainStep
from models import heads
from pipeline.decoders import dali_install as dali
from tests.docs.markdown import ROOT, Command
from tests.docs.project import make_project, run
from tests.movies import moving, write_movie

DOCUMENT = ROOT / "docs/troubleshooting.md"
MESSAGES = re.findall(r"^### `(.*)`$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
OWN = "python preprocess/pack.py -c configs/xnorm.yaml data.preset=none data.frames=frames data.shards=own "
TRAIN_OWN = "'data.annotations={train: [train.csv]}'"
TRAIN = "python train.py -c configs/rgb.yaml "
EXTRACT = "python preprocess/extract.py videos segments.csv -o clips"


@dataclass(frozen=True)
class Place:
    """A folder in which commands run."""

    folder: Path
    patch: pytest.MonkeyPatch

    def run(self, command: str, code: int) -> None:
        """Run `command`; it must end with `code`."""
        assert run(Command("here", command, None).words, self.patch) == code, command


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with shards and a short run of rgb, as a folder to be copied."""
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        make_project(folder, patch)
        place = Place(folder, patch)
        place.run("python preprocess/pack.py -c configs/xnorm.yaml", 0)
        place.run(TRAIN + "model.hidden_size=8", 0)
        yield folder


@pytest.fixture
def place(packed: Path, tmp_path: Path) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        folder = shutil.copytree(packed, tmp_path / "project", symlinks=True)
        patch.chdir(folder)
        yield Place(folder, patch)


def edit(path: Path, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(change(rows))


def frames(place: Place, stream: str) -> list[Path]:
    return sorted(place.folder.glob(f"frames/*/{stream}/*_01/**/*.jpg"))


def no_gpu(place: Place) -> None:
    place.patch.setattr(torch.cuda, "is_available", lambda: False)
    place.run(TRAIN + "name=x train.device=cuda", 2)


def missing_columns(place: Place) -> None:
    edit(place.folder / "train.csv", lambda rows: [row[1:] for row in rows])
    place.run(OWN + TRAIN_OWN, 1)


def behind_the_video(place: Place) -> None:
    edit(place.folder / "train.csv", lambda rows: [*rows[:-1], [*rows[-1][:4], "999", "0"]])
    place.run(OWN + TRAIN_OWN, 1)


def one_video_less(place: Place) -> None:
    shutil.rmtree(next(place.folder.glob("frames/*/rgb_frames/*_01")))
    place.run(OWN + TRAIN_OWN, 1)


def frames_of_denseflow(place: Place) -> None:
    for path in frames(place, "rgb_frames"):
        path.rename(path.with_name(f"img_{path.stem[-5:]}.jpg"))
    place.run(OWN + TRAIN_OWN, 1)


def third_of_the_flow(place: Place) -> None:
    for path in frames(place, "flow_frames"):
        if int(path.stem[-4:]) > 40:
            path.unlink()
    place.run(OWN + TRAIN_OWN, 1)


def half_of_the_flow(place: Place) -> None:
    kitchen = frames(place, "rgb_frames")[0].parents[2]
    for path in kitchen.glob("*/*_01"):
        shutil.copytree(path, path.with_name("half"))
        path.rename(path.with_name("all"))
    for path in (kitchen / "rgb_frames/all").iterdir():
        if int(path.stem[-4:]) > 128:
            path.unlink()
    rows = [["a", kitchen.name, "half", "1", "32", "0"], ["b", kitchen.name, "all", "1", "32", "0"]]
    edit(place.folder / "train.csv", lambda old: [[*old[0][:5], "verb"], *rows])
    place.run(OWN + TRAIN_OWN, 1)


def cut_off(place: Place) -> None:
    path = frames(place, "rgb_frames")[0]
    path.write_bytes(path.read_bytes()[:-9])
    place.run(OWN + TRAIN_OWN, 1)


def progressive(place: Place) -> None:
    path = frames(place, "rgb_frames")[0]
    with Image.open(path) as image:
        image.save(path, "JPEG", progressive=True)
    place.run(OWN + TRAIN_OWN + " data.codec=jpeg-restarts", 0)


def packing_twice(place: Place) -> None:
    folder = place.folder / "own/train"
    folder.mkdir(parents=True)
    with locked(folder):
        place.run(OWN + TRAIN_OWN, 1)


def changed_bytes(place: Place) -> None:
    with open(place.folder / "data/shards/train/00000.tfrecord", "r+b") as file:
        file.seek(40_000)  # among the RGB frames of the first clip
        file.write(bytes(10_000))
    place.run(TRAIN + "name=x", 1)


def no_dali(place: Place) -> None:
    place.patch.setattr(dali, "installed_builds", dict)
    place.run(TRAIN + "name=x loader.decoder=dali", 1)


def two_builds(place: Place) -> None:
    builds = {"nvidia-dali-cuda110": "1.34.0", "nvidia-dali-cuda130": "2.4.0"}
    place.patch.setattr(dali, "installed_builds", lambda: builds)
    place.run(TRAIN + "name=x loader.decoder=dali", 1)


def full_gpu(place: Place) -> None:
    def step(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    place.patch.setattr(TrainStep, "step", step)
    place.run(TRAIN + "name=x", 1)


def full_machine(place: Place) -> None:
    place.patch.setattr(TrainStep, "step", lambda *_: np.zeros(2**57))
    place.run(TRAIN + "name=x", 1)


def damaged_config(place: Place) -> None:
    (place.folder / "runs/rgb/config.yaml").write_text("name: [")
    place.run("python eval.py --compare runs/rgb", 2)


def half_a_torchrun(place: Place) -> None:
    place.patch.setenv("RANK", "0")
    place.run(TRAIN + "name=x", 2)


def taken_port(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        for name, value in (environment | {"MASTER_PORT": str(listener.getsockname()[1])}).items():
            place.patch.setenv(name, value)
        place.run(TRAIN + "name=x", 1)


def other_ranks(place: Place) -> None:
    place.patch.setattr(World, "gather_texts", lambda _, text: [text, '{"seed": 1}'])
    with pytest.raises(UserError) as error:
        require_agreement(World(0, 2), lambda: {"seed": 0})
    print(error.value)


def little_memory(place: Place) -> None:
    place.patch.setattr(model_cost, "available_bytes", lambda: 2**20)
    place.run(TRAIN + "name=x", 0)


def bf16_on_a_cpu(place: Place) -> None:
    place.patch.setattr(torch.cuda, "is_available", lambda: False)
    place.run(TRAIN + "name=x train.precision=bf16", 2)


def wrong_convolutions(place: Place) -> None:
    real = F.conv3d
    place.patch.setattr(session, "choose_placement", lambda *_: Placement(torch.device("cpu"), "bf16"))
    place.patch.setattr(F, "conv3d", lambda *args: real(*args) * (1.5 if torch.is_autocast_enabled("cpu") else 1))
    place.run(TRAIN + "name=x", 1)


def unequal_shares(_: Place) -> None:
    with pytest.raises(UserError) as error:
        World(0, 3).local_batch_size(32)
    print(error.value)


def diverged(place: Place) -> None:
    real = heads.ClassificationHead.forward
    place.patch.setattr(heads.ClassificationHead, "forward", lambda *arguments: real(*arguments) * torch.nan)
    place.run(TRAIN + "name=x loader.batch_size=2", 1)


def no_room(place: Place) -> None:
    (place.folder / "results").write_text("a file where a folder should be")
    place.run("python eval.py --checkpoint runs/rgb/best.pt --split val -c runs/rgb/config.yaml -o results", 1)


def damaged_checkpoint(place: Place) -> None:
    for path in (place.folder / "runs/rgb").glob("last*.pt"):
        with open(path, "r+b") as file:
            file.seek(100_000)
            file.write(b"\xff" * 8)
    place.run("python train.py -c runs/rgb/config.yaml train.epochs=9 --resume", 1)


def disordered(place: Place) -> None:
    part = write_movie(place.folder / "part.ts", moving([(1, 0)], 40, 56), codec="libx264").read_bytes()
    (place.folder / "videos/0.mp4").write_bytes(part * 9)
    place.run(EXTRACT, 1)


def one_folder_twice(place: Place) -> None:
    place.run(EXTRACT, 0)
    place.run(EXTRACT + " --bound 5", 1)


def class_without_training(place: Place) -> None:
    (place.folder / "segments.csv").write_text("file,label\n0.mp4,stir\n1.mp4,pour\n")
    place.run(EXTRACT, 0)


RESUME = "python train.py -c runs/rgb/config.yaml --resume "


def fewer_epochs(place: Place) -> None:
    place.run(RESUME + "train.epochs=2", 0)
    place.run(RESUME + "train.epochs=1", 2)


def lost_checkpoints(place: Place) -> None:
    for name in ("last.pt", "last.prev.pt", "summary.json"):
        (place.folder / "runs/rgb" / name).unlink(missing_ok=True)
    place.run(RESUME, 2)


def packed_anew(place: Place) -> None:
    last = place.folder / "runs/rgb/last.pt"
    state = load_checkpoint(last)
    save_checkpoint(last, {**state, "splits": {**state["splits"], "val": 1}})
    place.run(RESUME + "train.epochs=9", 1)


def of(command: str, code: int) -> Callable[[Place], None]:
    return lambda place: place.run(command, code)


EVAL = "python eval.py --checkpoint runs/rgb/best.pt --split val "
SITUATIONS: dict[str, Callable[[Place], None]] = {
    "unknown key": of(TRAIN + "train.lrr=1", 2),
    "has no effect when fusion": of(TRAIN + "model.exchange_order=parallel", 2),
    "train.device": no_gpu,
    "DALI is not installed": no_dali,
    "are both installed": two_builds,
    "the GPU's memory is full": full_gpu,
    "this machine's memory is full": full_machine,
    "the environment variable": of(TRAIN + "name=x data.shards=$NOT_SET_HERE/shards", 2),
    "restore it, or remove": damaged_config,
    "which torchrun sets together": half_a_torchrun,
    "cannot meet there": taken_port,
    "do not share what they must": other_ranks,
    "training takes at least": little_memory,
    "which CPUs do not compute rightly": bf16_on_a_cpu,
    "convolutions are computed wrongly": wrong_convolutions,
    "no such file of pretrained weights": of(TRAIN + "name=x 'model.pretrained={rgb: nowhere.pt, flow: null}'", 2),
    "missing columns": missing_columns,
    "no row belongs": of(OWN.replace("data.preset=none ", "") + TRAIN_OWN, 1),
    "clips are in both": of(OWN + "'data.annotations={train: [train.csv], val: [train.csv]}'", 0),
    "no such folder": of(OWN.replace("frames=frames", "frames=nowhere") + TRAIN_OWN, 1),
    "is missing, as a folder": one_video_less,
    "holds no frame": frames_of_denseflow,
    "are wanted": behind_the_video,
    "ends with flow frame": third_of_the_flow,
    "has half as many flow frames": half_of_the_flow,
    "is cut off": cut_off,
    "cannot be re-coded": progressive,
    "complete, but packed otherwise": of("python preprocess/pack.py data.frames_per_clip=all", 1),
    "another process is writing here": packing_twice,
    "no index.json here": of(TRAIN + "name=x data.shards=nowhere", 1),
    "is damaged": changed_bytes,
    "has label": of(TRAIN + "name=x model.num_classes=4", 1),
    "was packed with": of(TRAIN + "name=x data.frames_per_clip=all", 0),
    "cannot be written": no_room,
    "not a checkpoint": damaged_checkpoint,
    "do not fill one step": of(TRAIN + "name=x loader.batch_size=32", 1),
    "cannot share equally": unequal_shares,
    "this run exists already": of(TRAIN, 2),
    "--resume needs the config": of(TRAIN + "--resume model.hidden_size=16", 2),
    "epochs are trained already": fewer_epochs,
    "missing, so that this run": lost_checkpoints,
    "are not those that this run began with": packed_anew,
    "its frames were not made by extract.py": of("python predict.py runs/rgb videos/0.mp4", 1),
    "the gradient is not finite": diverged,
    "has times in disorder": disordered,
    "was made with other options": one_folder_twice,
    "no training clips of": class_without_training,
    "was trained with another model": of(EVAL + "-c configs/rgb.yaml model.hidden_size=16", 2),
}


def test_every_message_has_a_situation() -> None:
    assert len(MESSAGES) == len(SITUATIONS)
    for message in MESSAGES:
        assert sum(key in message for key in SITUATIONS) == 1, message


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_is_what_the_situation_gives(message: str, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    situation = next(value for key, value in SITUATIONS.items() if key in message)
    situation(place)
    printed = " ".join("".join(capfd.readouterr()).split())
    assert re.search(".*".join(map(re.escape, message.split("..."))), printed), printed
