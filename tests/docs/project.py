"""A folder like a clone's with tiny clips in EPIC's layout, in which a documented command is run, or checked."""

import importlib
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.distributed.run import get_args_parser

from common.startup import COMMANDS
from configs import load
from configs.schema import Config
from models.trunks import i3d
from preprocess.videos import own_config
from tests.docs.markdown import ROOT, Command
from tests.movies import moving, write_movie
from tests.runs import SHALLOW
from tests.trees import Video, write_annotations, write_video


def _video(video_id: str, tar: bool = True) -> Video:
    """Eight clips of 32 RGB frames, the fewest that the preset takes, one of each class."""
    return Video(video_id, 256, 40, 56, tuple((32 * n + 1, 32 * n + 32, n) for n in range(8)), tar)


EPIC = {  # enough for a batch of each split of the preset, and one video of either stride
    "EPIC_100_train.csv": [_video(name) for name in ("P01_01", "P01_02", "P08_101")],
    "EPIC_100_validation.csv": [_video("P22_01")],
}
OWN = {"train.csv": [_video("mine_01", tar=False)], "val.csv": [_video("mine_02")]}
SMALLER = {  # in place of base.yaml's own values, so that what a document sets itself stays
    "data": {"workers": 1},
    "clip": {"num_frames": 8, "crop_size": 32},
    "loader": {"batch_size": 4, "num_threads": 1},
    "train": {"epochs": 1, "log_every": 1, "tensorboard": False},
}
SHORTER = {  # what a command that measures is given after its own arguments
    "pipeline.profile.__main__": ["--rounds", "1", "--batches", "1"],
    "engine.profiling": ["--rounds", "1", "--batches", "1"],
    "benchmarks.codecs": ["--rounds", "1", "--batches", "2"],
    "benchmarks.cold_cache": ["--rounds", "1"],
    "benchmarks.large_index": ["--clips", "100", "--batches", "1"],
    "benchmarks.memory": ["--epochs", "6"],
    "preprocess.extract": ["--short-side", "40", "--workers", "1"],
}
# Programs that are not ours; a block with one of them is marked.
ELSEWHERE = {
    "cd",
    "dask",
    "epic_downloader.py",
    "git",
    "lint-imports",
    "mypy",
    "pip",
    "pytest",
    "ruff",
    "sbatch",
    "tensorboard",
    "venv",
}


class AcceptedError(BaseException):
    """The command line and its config are right, and nothing more was wanted."""


@dataclass(frozen=True)
class Resolved:
    """What a command line calls: one of our modules, or (`argv` None) a program that is not ours."""

    module: str
    argv: list[str] | None


def resolve(words: Sequence[str]) -> Resolved:
    """Say which module a command line runs, with which arguments.

    Raises:
        AssertionError: it is none that the project has or expects.
    """
    program, *rest = words
    if program == "torchrun":
        arguments = get_args_parser().parse_args(rest)
        return resolve(["python", arguments.training_script, *arguments.training_script_args])
    if program.startswith("xnorm-"):
        return Resolved(entry_points()[program], list(rest))
    if program.split("/")[-1] != "python":
        assert program in ELSEWHERE, f"unknown program {program}"
        return Resolved(program, None)
    if rest[0] == "-c":
        compile(rest[1], "-c", "exec")
        return Resolved(program, None)
    if rest[0] == "-m":
        module, argv = rest[1], rest[2:]
        path = ROOT / module.replace(".", "/")
        module += ".__main__" if path.is_dir() else ""
        is_ours = path.is_dir() or path.with_suffix(".py").exists()
    else:
        module, argv = rest[0].removesuffix(".py").replace("/", "."), rest[1:]
        is_ours = (ROOT / rest[0]).exists()
    if not is_ours:
        assert module in ELSEWHERE or rest[0] in ELSEWHERE, f"no such file: {rest[0]}"
    return Resolved(module, list(argv) if is_ours else None)


def entry_points() -> dict[str, str]:
    """The console scripts of setup.cfg: name -> module of the command."""
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = parser["options.entry_points"]["console_scripts"].split("\n")
    return {line.split()[0]: COMMANDS[line.split()[0]] for line in lines if line}


def steps(command: Command) -> list[list[str]]:
    """The command lines that a documented one comes to: itself, or what its make target runs."""
    words = command.words
    if words[0] != "make":
        return [words]
    # The environment, made before anything else, is left out: that is what -o says. Where it is must not depend on the
    # make that runs the tests.
    making = ["make", "-n", *words[1:], "VENV=.venv", "EXTRA=cuda110", "-o", ".venv/.installed-cuda110"]
    shown = subprocess.run(making, cwd=ROOT, check=True, capture_output=True, text=True)
    lines = [line.removeprefix(".venv/bin/") for line in shown.stdout.splitlines() if line.startswith(".venv/bin/")]
    assert lines or words[1] == "env", shown.stdout
    return [Command(command.source, line, None).words for line in lines]


def make_project(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Fill `folder`, and make it what commands work in until `patch` is undone."""
    for name, videos in EPIC.items():
        _write(folder / "data/EPIC-KITCHENS", folder / "data/annotations" / name, videos)
    (folder / "data/epic_kitchens").symlink_to("EPIC-KITCHENS")
    for name, videos in OWN.items():
        _write(folder / "frames", folder / name, videos)
    _write_videos(folder)
    shutil.copytree(ROOT / "configs", folder / "configs", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    base = folder / "configs/base.yaml"
    content = yaml.safe_load(base.read_text())
    for section, values in SMALLER.items():
        content[section] |= values
    base.write_text(yaml.safe_dump(content))
    patch.setattr(load, "BASE", base)
    patch.setattr(own_config, "MIN_UPDATES", 1)
    patch.setattr(i3d.I3D, "stages", SHALLOW)
    patch.setattr(i3d, "_scaled", lambda channels, width: max(4, round(channels * width / 20)))
    patch.chdir(folder)
    for stream, channels in (("rgb", 3), ("flow", 2)):
        torch.save(i3d.I3D(channels, i3d.KINETICS_CLASSES).state_dict(), folder / f"{stream}_imagenet.pt")


def _write(frames: Path, annotations: Path, videos: list[Video]) -> None:
    for video in videos:
        write_video(frames, video)
    write_annotations(annotations, videos)


def _write_videos(folder: Path) -> None:
    """Six videos, and a CSV with three segments of each."""
    rows = ["file,start,stop,label"]
    for number in range(6):
        write_movie(folder / f"videos/{number}.mp4", moving([(2, 0)] * 29, 40, 56, seed=number))
        rows += [f"{number}.mp4,{0.4 * n:.1f},{0.4 * n + 0.4:.1f},{'stir' if n % 2 else 'pour'}" for n in range(3)]
    (folder / "segments.csv").write_text("\n".join(rows))


def run(words: Sequence[str], patch: pytest.MonkeyPatch) -> int:
    """Run one command line of ours in this process and return its exit code."""
    resolved = resolve(words)
    assert resolved.argv is not None, f"{words[0]} is not ours: mark its block with what it needs"
    argv = [path for word in resolved.argv for path in (sorted(glob(word)) if "*" in word else [word])]
    return _call(resolved.module, [*argv, *SHORTER.get(resolved.module, [])], patch)


def check(words: Sequence[str], patch: pytest.MonkeyPatch) -> int:
    """Go through one command line as far as its arguments and its config, and return 0 where they are right."""
    resolved = resolve(words)
    if resolved.argv is None:
        return 0
    with patch.context() as only:
        for name in ("parse_args", "parse_intermixed_args"):
            only.setattr(ArgumentParser, name, _accepting(getattr(ArgumentParser, name)))
        only.setattr(Config, "model_validate", classmethod(_accept_config))
        try:
            _call(resolved.module, resolved.argv, only)
        except AcceptedError:
            return 0
    return 1


def _call(module: str, argv: list[str], patch: pytest.MonkeyPatch) -> int:
    with patch.context() as only:
        only.setattr(sys, "argv", [module, *argv])
        try:
            return importlib.import_module(module).main() or 0
        except SystemExit as exited:
            return int(exited.code or 0)


def _accepting(parse: Callable[..., Namespace]) -> Callable[..., Namespace]:
    """`parse`, and after it the end, unless there is a config to be looked at, too."""

    def parse_and_accept(*arguments: Any, **keywords: Any) -> Namespace:
        namespace = parse(*arguments, **keywords)
        if getattr(namespace, "config", None) is None and not getattr(namespace, "overrides", None):
            raise AcceptedError
        return namespace

    return parse_and_accept


_validate = Config.model_validate.__func__  # type: ignore[attr-defined]


def _accept_config(cls: type[Config], tree: Any) -> Config:
    _validate(cls, tree)
    raise AcceptedError
