"""The wheel holds all that the commands need, and they work from anywhere once it is installed."""

import os
import re
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.docs.project import entry_points
from tests.test_structure import PACKAGES
from tests.trees import Video, write_annotations, write_video

ROOT = Path(__file__).parents[1]
KINDS = (".py", ".yaml", ".html", ".js")  # of files that are the program
HELP = """
import sys
from importlib.metadata import distribution
for script in distribution("xnorm-dali").entry_points.select(group="console_scripts"):
    sys.argv = [script.name, "--help"]
    try:
        script.load()()
    except SystemExit as exited:
        print(script.name, exited.code)
"""


def sources() -> Iterator[Path]:
    """What a clone needs to be installed, and what it must bring along, relative to the root."""
    yield from (path.relative_to(ROOT) for path in ROOT.glob("*.py"))
    for name in PACKAGES:
        yield from (path.relative_to(ROOT) for path in ROOT.glob(f"{name}/**/*") if path.suffix in KINDS)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, so that the tree stays as it is."""
    clone = tmp_path_factory.mktemp("clone")
    for path in (*map(Path, ("setup.cfg", "pyproject.toml", "README.md")), *sources()):
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, clone / path)
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=clone, check=True, capture_output=True)
    (built,) = (clone / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands in a fresh environment with the wheel, and with this one's other packages."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--quiet", str(wheel)], check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path file inside a borrowed folder is not read, so this tree's own (editable) installation stays out.
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "bin"


def outside(folder: Path, *command: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a command in `folder`, where nothing points at this tree."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def test_the_wheel_holds_every_source_and_config_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {Path(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert held == set(sources())


@pytest.mark.slow
def test_the_commands_are_those_of_setup_cfg_and_start_outside_the_tree(scripts: Path, tmp_path: Path) -> None:
    shown = outside(tmp_path, scripts / "python", "-c", HELP)
    ended = {line for line in shown.stdout.splitlines() if line.startswith("xnorm-")}
    assert ended == {f"{name} 0" for name in entry_points()}, shown.stderr
    assert all((scripts / name).is_file() for name in entry_points())


def test_an_installed_command_finds_the_configs_and_packs(scripts: Path, tmp_path: Path) -> None:
    videos = [Video("P01_01")]
    write_video(tmp_path / "frames", videos[0])
    write_annotations(tmp_path / "train.csv", videos)
    data = ["data.preset=none", "data.frames=frames", "data.annotations={train: [train.csv]}", "data.shards=shards"]
    packed = outside(tmp_path, scripts / "xnorm-pack", "-c", "configs/xnorm.yaml", *data)
    assert packed.returncode == 0, packed.stderr
    assert (tmp_path / "shards/train/index.json").is_file()
    where = outside(tmp_path, scripts / "python", "-c", "import configs, preprocess; print(configs.__file__)")
    assert str(scripts.parent) in where.stdout


def test_a_config_that_is_nowhere_names_those_that_there_are(scripts: Path, tmp_path: Path) -> None:
    refused = outside(tmp_path, scripts / "xnorm-pack", "-c", "configs/xnrm.yaml")
    assert refused.returncode == 2
    assert "the project's own: configs/demo-binding.yaml, configs/demo.yaml, " in refused.stderr


def test_every_dependency_has_its_reason_in_the_readme() -> None:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    extras = (text for name, text in parser["options.extras_require"].items() if name != "dev")
    lines = "\n".join([parser["options"]["install_requires"], *extras]).split()
    names = {re.split(r"[<>=!]", line)[0] for line in lines}
    readme = (ROOT / "README.md").read_text("utf-8").split("What it stands on")[1]
    reasons = re.findall(r"\*\*([\w-]+)\*\*", readme)
    assert (
        sorted(name for name in names if not any(name == known or name.startswith(f"{known}-") for known in reasons))
        == []
    )
    assert sorted(known for known in reasons if not any(f"{name}-".startswith(f"{known}-") for name in names)) == []
