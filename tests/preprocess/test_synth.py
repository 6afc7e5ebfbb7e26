"""The command that writes synthetic trees."""

import subprocess
import sys
from pathlib import Path

import pytest

from preprocess import synth

ROOT = Path(__file__).parents[2]


def test_the_command_says_what_it_wrote_and_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--videos", "1", "1", "1", "--clips", "4", "--frames", "2"]
    command = [sys.executable, str(ROOT / "preprocess" / "synth.py"), "-o", "tree", *tiny]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "tree: 3 videos, 12 clips of the classes rise-rows, sink-rows, rise-columns, sink-columns\n"
    assert synth.main(["-o", str(tmp_path / "tree"), *tiny, "--seed", "1"]) == 1
    assert "another tree" in capsys.readouterr().err
    assert synth.main(["-o", str(tmp_path / "new"), "--clips", "3"]) == 2
    assert capsys.readouterr().err.startswith("error: --clips")
    (tmp_path / "file").touch()
    assert synth.main(["-o", str(tmp_path / "file"), *tiny]) == 1
    assert f"{tmp_path / 'file'}: cannot be written: File exists" in capsys.readouterr().err
