"""Commands whose reader leaves, whose terminal vanishes, that cannot print a sign, or that are ended as they start."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.format.split import open_split
from tests.test_commands import COMMANDS
from tests.trees import Video, write_annotations, write_video

ROOT = Path(__file__).parents[2]
PACK = (sys.executable, "preprocess/pack.py", "-c", "configs/base.yaml")
STOP = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(20)\n"
PRINTS = """
from common.startup import begin
begin()
import sys
from rich.table import Table
from common.display import Display
from common.errors import exit_code_of
def work():
    table = Table("run", "accuracy")
    table.add_row("Küche", "50 ± 1 %")
    Display().table(table)
    return 3
sys.exit(exit_code_of(work))
"""


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    """What packs two splits of a video each."""
    names = []
    for number, split in enumerate(("train", "val"), start=1):
        video = Video(f"P0{number}_01", tar=True)
        write_video(tmp_path / "frames", video)
        names.append(f"{split}: [{write_annotations(tmp_path / f'{split}.csv', [video])}]")
    places = [f"data.{name}={tmp_path / name}" for name in ("frames", "shards")]
    return ["data.preset=none", "data.workers=1", f"data.annotations={{{', '.join(names)}}}", *places]


def assert_packed(folder: Path) -> None:
    assert [len(open_split(folder / "shards" / split).table) for split in ("train", "val")] == [2, 2]


def start(*command: str, **settings: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, cwd=ROOT, stderr=settings.pop("stderr", subprocess.PIPE), **settings)


def closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_packing_into_a_pipe_that_nobody_reads_packs_all_splits(overrides: list[str], tmp_path: Path) -> None:
    process = start(*PACK, *overrides, stdout=closed_pipe())
    assert (process.communicate()[1], process.returncode) == (b"", 0)
    assert_packed(tmp_path)


def test_packing_without_an_output_packs_all_splits(overrides: list[str], tmp_path: Path) -> None:
    process = start(*PACK, *overrides, preexec_fn=lambda: os.close(1))
    assert (process.communicate()[1], process.returncode) == (b"", 0)
    assert_packed(tmp_path)


def test_a_mistake_is_still_one_when_nobody_reads(tmp_path: Path) -> None:
    nowhere = closed_pipe()
    assert start(*PACK, "data.codec=png", stdout=nowhere, stderr=nowhere).wait() == 2


def test_help_into_a_pipe_that_nobody_reads_says_nothing() -> None:
    process = start(*PACK, "--help", stdout=closed_pipe())
    assert (process.communicate()[1], process.returncode) == (b"", 0)


@pytest.mark.parametrize(("ignored", "code"), [(True, 0), (False, 129)], ids=["nohup", "plain"])
def test_a_vanished_terminal_ends_a_command_unless_it_is_told_to_stay(
    ignored: bool, code: int, overrides: list[str], tmp_path: Path
) -> None:
    def take_terminal() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(1), os.O_RDWR))  # now the controlling terminal
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    terminal, side = pty.openpty()
    process = start(*PACK, *overrides, stdin=side, stdout=side, stderr=side, preexec_fn=take_terminal)
    os.close(side)
    os.close(terminal)
    assert process.wait(60) in (code, -1 if code else 0)  # -1: before the command itself takes signals
    if ignored:
        assert_packed(tmp_path)


def test_a_sign_that_cannot_be_encoded_is_lost_and_not_the_command() -> None:
    ascii_alone = os.environ | {"PYTHONIOENCODING": "ascii"}
    process = start(sys.executable, "-c", PRINTS, stdout=subprocess.PIPE, env=ascii_alone)
    printed, error = process.communicate()
    assert (process.returncode, error) == (3, b"")
    assert b"K?che" in printed
    assert b"50 ? 1 %" in printed


@pytest.mark.slow
def test_ctrl_c_during_the_imports_of_any_command_says_nothing(tmp_path: Path) -> None:
    for name in ("rich", "torch", "PIL"):  # one of them is imported by every command
        (tmp_path / f"{name}.py").write_text(STOP)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    started = {}
    for name in COMMANDS:
        command = ["-m", name] if name.startswith(("pipeline", "engine", "docs")) else [f"{name.replace('.', '/')}.py"]
        started[name] = start(sys.executable, *command, "--help", env=environment, preexec_fn=heed_ctrl_c)
    for name, process in started.items():
        assert (name, process.communicate()[1], process.returncode) == (name, b"", -signal.SIGINT)


def heed_ctrl_c() -> None:
    """As in a terminal: a shell that started the tests in its background has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_too_little_memory_for_the_imports_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('librich.so: failed to map segment from shared object')")
    process = start(*PACK, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    error = process.communicate()[1].decode()
    assert process.returncode == 1
    assert error.startswith("error: this machine's memory is full (librich.so: failed to map segment")
    assert error.count("\n") == 1


def test_another_fault_of_the_imports_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('no such thing')")
    process = start(*PACK, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert b"Traceback" in process.communicate()[1]
