"""What ends a command is its exit code and a line, and what it had taken over is given back."""

import errno
import os
import signal

import cv2
import pytest

from common.errors import ConfigError, exit_code_of

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_one_line_and_its_exit_code(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.signal(each, signal.SIG_DFL) for each in SIGNALS]
    try:
        assert exit_code_of(lambda: os.kill(os.getpid(), number) or 0, "what is done is kept") == 128 + number
        assert [signal.getsignal(each) for each in SIGNALS] == [signal.SIG_DFL] * 3
    finally:
        for each, handler in zip(SIGNALS, before, strict=True):
            signal.signal(each, handler)
    assert capsys.readouterr().err == "\ninterrupted; what is done is kept\n"


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert exit_code_of(lambda: os.kill(os.getpid(), signal.SIGHUP) or 0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_every_rank_finds_is_said_by_one_of_each_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise ConfigError("loader.batch_size: found 3")

    for rank, said in (("0", "error: loader.batch_size: found 3\n"), ("1", "")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert exit_code_of(work) == 2
        assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 2.00 GiB for an array"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        cv2.error("OpenCV(4.9.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 6 bytes"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=repr,
)
def test_a_want_of_memory_is_one_line_wherever_it_strikes(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise error

    assert exit_code_of(work) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: this machine's memory is full (")
    assert said.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code_of(lambda: 1 // 0)
