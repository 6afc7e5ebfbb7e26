"""What is printed where no person watches."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from engine.progress import Display, describe

RECORD = {"loss": 1.25, "accuracy": 0.5, "clips_per_s": 20.0, "data_wait": 0.125}


def shown(display: Display, stream: io.StringIO) -> str:
    with display:
        display.begin("epoch 1/2", total=3)
        display.advance()
        display.update("loss 1")
        display.line("epoch 1/2  loss 1")
    return stream.getvalue()


def test_a_file_gets_plain_lines_and_no_bar(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    assert shown(Display(), stream) == "epoch 1/2  loss 1\n"


def test_quiet_prints_nothing(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    assert shown(Display(quiet=True), stream) == ""


def test_no_color_turns_the_bar_off_in_a_terminal_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: True))
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(Display(), stream)


def test_a_table_is_never_cut(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("COLUMNS", "20")
    table = Table()
    for number in range(30):
        table.add_column(f"column{number}")
    Display().table(table)
    assert all(f"column{number} " in stream.getvalue() for number in range(30))


def test_time_left_is_that_of_the_clips_left_at_this_rate():
    assert describe(RECORD, clips_left=1200) == (
        "loss 1.2500  accuracy 0.500  20.0 clips/s  data wait 12.5%  0:01:00 left"
    )
