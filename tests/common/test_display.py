"""What is shown where a person watches, where none does, and where nobody wants to be told."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from common import display
from common.display import Display


def shown(display: Display, stream: io.StringIO) -> str:
    with display:
        display.begin("epoch 1/2", total=3)
        display.advance()
        display.update("loss 1")
        display.print("epoch 1/2  loss 1")
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


def printed(table: Table, monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    Display().table(table)
    return stream.getvalue().splitlines()


def test_a_table_is_never_cut(monkeypatch: pytest.MonkeyPatch):
    table = Table()
    for number in range(30):
        table.add_column(f"column{number}")
    assert all(f"column{number}" in "".join(printed(table, monkeypatch, 20)) for number in range(30))


def test_a_table_that_is_too_wide_is_broken_between_words(monkeypatch: pytest.MonkeyPatch):
    table = Table(caption="what has to be known to read it " * 9)
    for name in ("run", "accuracy", "mean-class", "GFLOPs/clip", "peak memory", "95 %", "data wait"):
        table.add_column(name, no_wrap=True)
    table.add_row("unsynchronized", "25.2%", "21.5 ± 28.9%", "0.44", "1.11 GiB", "67.8 to 75.6", "2.1%")
    lines = printed(table, monkeypatch, 80)
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    for word in ("unsynchronized", "accuracy", "mean-", "class", "GFLOPs/", "67.8", "75.6", "memory", "28.9%"):
        assert word in words


def test_a_word_that_does_not_fit_is_broken_and_none_of_it_lost(monkeypatch: pytest.MonkeyPatch):
    table = Table()
    for name in ("clip", "class"):
        table.add_column(name)
    table.add_row("P01_01_0", "a" * 100)
    lines = printed(table, monkeypatch, 80)
    assert max(map(len, lines)) <= 80
    assert sum(line.count("a") for line in lines[3:]) == 100


def test_a_file_is_told_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(display, "PLAIN_EVERY", -1.0)
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    told = Display()
    told.begin("train", total=2048, done=1, unit="MB")
    told.update("3.0 clips/s", done=512.4)
    told.advance()
    told.update()
    assert stream.getvalue() == "train  512/2048 MB  3.0 clips/s\ntrain  513/2048 MB\n"


def test_a_terminal_gets_a_bar_and_a_file_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: True))
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.delenv("NO_COLOR", raising=False)
    drawn = shown(Display(), stream)
    assert "1/3 batches" in drawn
    assert "\x1b" in drawn


def test_faults_are_said_when_told_to_be_quiet(capsys: pytest.CaptureFixture[str]):
    Display(quiet=True).error("00000.tfrecord: damaged")
    assert capsys.readouterr() == ("", "00000.tfrecord: damaged\n")
