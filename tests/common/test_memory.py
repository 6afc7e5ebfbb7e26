"""A want of memory is told from other faults, and said with what to lower."""

from pathlib import Path

import pytest
import torch

from common.errors import exit_code_of
from common.memory import available_bytes

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB."
DALI = """Critical error in pipeline:
Error in MIXED operator `nvidia.dali.fn.decoders.image_slice`,
encountered:

CUDA runtime API error cudaErrorMemoryAllocation (2):
out of memory
Current pipeline object is no longer valid."""
CPU = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."


def said(error: Exception, capsys: pytest.CaptureFixture[str]) -> str:
    def work() -> int:
        raise error

    assert exit_code_of(work) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(CUDA), RuntimeError(DALI)], ids=["torch", "DALI"])
def test_a_full_gpu_is_one_message_with_what_to_lower(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    message = said(error, capsys)
    assert message.startswith("error: the GPU's memory is full (")
    assert "; raise train.accumulate, or lower loader.batch_size or clip.num_frames; train.precision=bf16" in message


def test_a_full_machine_is_one_message_with_what_to_lower(capsys: pytest.CaptureFixture[str]) -> None:
    message = said(RuntimeError(CPU), capsys)
    assert message.startswith("error: this machine's memory is full (")
    assert "you tried to allocate 9 bytes.); raise train.accumulate, or lower loader.batch_size" in message


def test_memory_that_torch_itself_refuses_is_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        torch.empty(2**60, dtype=torch.uint8)
        return 0

    assert exit_code_of(work) == 1
    assert "this machine's memory is full" in capsys.readouterr().err


def test_another_fault_keeps_its_traceback() -> None:
    def work() -> int:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        exit_code_of(work)


def test_what_is_available_is_the_less_of_machine_and_container(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:   64 kB\n")
    assert available_bytes(tmp_path / "meminfo", tmp_path) == 64 * 1024
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path / "meminfo", tmp_path) == 64 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    assert available_bytes(tmp_path / "meminfo", tmp_path) == 4000
    assert available_bytes(tmp_path / "nowhere", tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("own", "names"),
    [
        ("0::/job/step\n", ("job/memory.max", "job/memory.current")),  # as Slurm nests them
        ("7:memory:/job\n", ("memory/job/memory.limit_in_bytes", "memory/job/memory.usage_in_bytes")),
    ],
)
def test_a_limit_of_the_groups_around_a_process_counts(tmp_path: Path, own: str, names: tuple[str, str]) -> None:
    (tmp_path / "own").write_text(own)
    for name, number in zip(names, ("5000\n", "1000\n"), strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(number)
    assert available_bytes(tmp_path / "nowhere", tmp_path, tmp_path / "own") == 4000
