"""What surrounds a command's work."""

import warnings

import pytest

from engine import session
from engine.distributed import World
from engine.session import open_session


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
