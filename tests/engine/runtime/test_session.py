"""What surrounds a command's work."""

import os
import signal
import warnings

import pytest

from engine.runtime import session
from engine.runtime.session import ENDING, NOTICES, InterruptionError, StopSignal, open_session
from engine.runtime.world import World


@pytest.mark.parametrize(("rank", "printed"), [(0, "warning: the heads disagree\n"), (1, "")])
def test_a_warning_is_one_line_of_the_first_process(config, monkeypatch, capsys, rank, printed):
    class OneOfTwo:
        def __init__(self, _device, _timeout):
            pass

        def __enter__(self):
            return World(rank, 2)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(session, "joined_world", OneOfTwo)
    with open_session(config(), quiet=True):
        warnings.warn("the heads disagree", stacklevel=1)
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize("number", [*ENDING, *NOTICES])
def test_a_signal_is_a_request_to_stop_with_its_own_exit_code(number):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop.number == number
        if number in NOTICES:  # a queue may send it twice
            os.kill(os.getpid(), number)
        else:
            assert signal.getsignal(number) is signal.SIG_DFL
    assert signal.getsignal(number) is before
    assert InterruptionError(stop.number).exit_code == 128 + number


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)
