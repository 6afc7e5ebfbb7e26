"""Where DALI cannot be used the message says why, and what to install: decided without any GPU."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import UserError
from pipeline import dali
from pipeline.dali import BUILDS, import_graph, installed_builds, wrong_builds, wrong_gpu, wrong_surroundings
from pipeline.loader import ClipLoader

CPU = torch.device("cpu")


def test_the_build_that_is_here_is_found_and_right() -> None:
    builds = installed_builds()
    assert len(builds) == 1
    assert wrong_builds(builds) is None
    assert import_graph(CPU) is import_module("pipeline.graph")


def test_no_build_at_all_says_how_to_install_one(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dali, "installed_builds", dict)
    with pytest.raises(UserError, match=r"DALI is not installed; pip install '\.\[cuda110\]' \(or cuda120, cuda130\)"):
        ClipLoader(split, 1, 8, 48)


def test_two_builds_are_refused_by_name(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dali, "installed_builds", lambda: {"cuda110": "1.34.0", "cuda130": "2.4.0"})
    with pytest.raises(UserError) as refused:
        ClipLoader(split, 1, 8, 48)
    assert str(refused.value) == (
        "nvidia-dali-cuda110 1.34.0 and nvidia-dali-cuda130 2.4.0 are both installed, and own the same files; "
        "pip uninstall nvidia-dali-cuda110 nvidia-dali-cuda130, then install one; each build needs an environment "
        "of its own: make env EXTRA=cuda130 makes one"
    )


# Compute capabilities of GPUs, and the builds that have code for them.
DRIVES = [
    ("Tesla K80", (3, 7), {"cuda110"}),
    ("Tesla V100", (7, 0), {"cuda110", "cuda120"}),
    ("Tesla T4", (7, 5), {"cuda110", "cuda120", "cuda130"}),
    ("NVIDIA A100", (8, 0), {"cuda110", "cuda120", "cuda130"}),
    ("NVIDIA RTX 4090", (8, 9), {"cuda110", "cuda120", "cuda130"}),
    ("NVIDIA H100", (9, 0), {"cuda110", "cuda120", "cuda130"}),
    ("NVIDIA B200", (10, 0), {"cuda120", "cuda130"}),
    ("NVIDIA GeForce RTX 5090", (12, 0), {"cuda120", "cuda130"}),
]


@pytest.mark.parametrize(("gpu", "capability", "builds"), DRIVES)
def test_each_gpu_is_driven_by_the_builds_that_have_code_for_it(
    gpu: str, capability: tuple[int, int], builds: set[str]
) -> None:
    assert {extra for extra in BUILDS if wrong_gpu(extra, gpu, capability) is None} == builds


def test_a_gpu_that_is_too_new_for_the_build_is_told_which_one_to_install() -> None:
    assert wrong_gpu("cuda110", "NVIDIA GeForce RTX 5090", (12, 0)) == (
        "loader.device: NVIDIA GeForce RTX 5090 has compute capability 12.0, but nvidia-dali-cuda110 has code for 3.5 "
        "to 9.0 alone; install cuda120 or cuda130 (each build needs an environment of its own: make env EXTRA=cuda130 "
        "makes one), or decode on the CPU: loader.device=cpu"
    )


def test_a_gpu_that_is_too_old_for_all_can_leave_decoding_to_the_cpu() -> None:
    message = wrong_gpu("cuda130", "Tesla C2050", (2, 0))
    assert message is not None
    assert message.endswith("code for 7.5 to 12.0 alone; decode on the CPU: loader.device=cpu")


def test_the_gpu_is_asked_before_dali_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dali, "installed_builds", lambda: {"cuda110": "1.34.0"})
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA B200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (10, 0))
    with pytest.raises(UserError, match=r"NVIDIA B200 has compute capability 10\.0, but nvidia-dali-cuda110 has code"):
        import_graph(torch.device("cuda", 0))


def test_a_python_that_the_build_is_not_for_is_named() -> None:
    error = ImportError("cannot import name 'backend_impl'")
    assert wrong_surroundings({"cuda110": "1.34.0"}, 13, "2.1.0", error) == (
        "nvidia-dali-cuda110 1.34.0 is for Python 3.8 to 3.12, this is 3.13; make an environment with one of those: "
        "make env EXTRA=cuda110 PYTHON=python3.12"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            AttributeError("module 'numpy' has no attribute 'float_'"),
            r"nvidia-dali-cuda\d+ \S+ cannot be used with NumPy \S+ \(module 'numpy' has no attribute 'float_'\); "
            "pip install 'numpy<2', or a later build of DALI",
        ),
        (
            ImportError("libnvjpeg.so.12: cannot open shared object file"),
            r"nvidia-dali-cuda\d+ \S+ cannot be imported \(libnvjpeg.so.12: cannot open shared object file\); "
            r"pip install --force-reinstall nvidia-dali-cuda\d+==",
        ),
    ],
)
def test_what_cannot_be_imported_is_said_with_its_reason(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> Any:
        raise error

    monkeypatch.setattr(dali, "import_module", fail)
    with pytest.raises(UserError, match=message):
        import_graph(CPU)


def test_an_attribute_error_of_our_own_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise AttributeError("'NoneType' object has no attribute 'shape'")

    monkeypatch.setattr(dali, "import_module", fail)
    with pytest.raises(AttributeError, match="NoneType"):
        import_graph(CPU)


def test_help_does_not_wait_for_dali() -> None:
    code = "import sys, train, eval, demo, preprocess.pack, pipeline.inspect, pipeline.profile; print(*sys.modules)"
    done = subprocess.run(  # a process of its own: this one has DALI already
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not [name for name in done.stdout.split() if name.startswith("nvidia.dali")]
