"""Where DALI cannot be used the message says why, and what to install: decided without any GPU."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from pipeline.decoders import dali_install as dali
from pipeline.decoders.dali_install import check_installed, installed_builds
from pipeline.loader import ClipLoader


def test_the_build_that_is_here_is_found_and_right() -> None:
    assert len(installed_builds()) == 1
    check_installed()


def test_no_build_at_all_says_how_to_install_one(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dali, "installed_builds", dict)
    with pytest.raises(UserError, match=r"DALI is not installed; pip install '\.\[cuda110\]' \(or cuda120, cuda130\)"):
        ClipLoader(split, 1, 8, 48, decoder="dali")


@pytest.mark.parametrize(("form", "decoder"), [("split", "auto"), ("raw_split", "auto"), ("raw_split", "dali")])
def test_a_cpu_needs_none(
    form: str, decoder: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dali, "installed_builds", dict)
    with ClipLoader(request.getfixturevalue(form), 1, 8, 48, decoder=decoder) as loader:
        assert len(next(iter(loader))) == 1


def test_two_builds_are_refused_by_name(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = {"nvidia-dali-cuda110": "1.34.0", "nvidia-dali-cuda130": "2.4.0"}
    monkeypatch.setattr(dali, "installed_builds", lambda: builds)
    with pytest.raises(UserError) as refused:
        ClipLoader(split, 1, 8, 48, decoder="dali")
    assert str(refused.value) == (
        "nvidia-dali-cuda110 1.34.0 and nvidia-dali-cuda130 2.4.0 are both installed, and own the same files; "
        "pip uninstall nvidia-dali-cuda110 nvidia-dali-cuda130, then install one; each build needs an environment "
        "of its own: make env EXTRA=cuda130 makes one"
    )


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libnvjpeg.so.12: cannot open shared object file\nand more"),
        AttributeError("module 'numpy' has no attribute 'float_'"),
    ],
)
def test_what_cannot_be_imported_is_said_in_its_own_words(
    split: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> Any:
        raise error

    monkeypatch.setattr(dali, "import_module", fail)
    with pytest.raises(UserError, match=r"nvidia-dali-cuda\d+ \S+ cannot be imported: ") as refused:
        ClipLoader(split, 1, 8, 48, decoder="dali")
    assert f"cannot be imported: {str(error).splitlines()[0]}; another build may fit" in str(refused.value)


@pytest.mark.slow
def test_help_waits_for_no_library_that_is_slow_to_import() -> None:
    code = "import sys, train, eval, demo, preprocess.pack, pipeline.inspect, pipeline.profile; print(*sys.modules)"
    done = subprocess.run(  # a process of its own: this one has DALI already
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    slow = ("nvidia.dali", "torchvision", "torch._dynamo", "matplotlib")
    assert not [name for name in done.stdout.split() if name.startswith(slow)]
