"""docs/faults.md is written by the scripts of chaos/: a table each between markers, unless a trial went wrong."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from chaos import tally
from chaos.tally import DOCUMENT, Tally

FAULT = "`kill -9`, then the same command"


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = Path(shutil.copy(DOCUMENT, tmp_path / "faults.md"))
    monkeypatch.setattr(tally, "DOCUMENT", copy)
    monkeypatch.setattr(sys, "argv", ["chaos.pack", "--kills", "2", "--write"])
    return copy


def test_the_document_has_markers_for_every_script_that_writes_and_no_other() -> None:
    written = re.findall(r"<!-- faults:(.*?) -->", DOCUMENT.read_text())
    scripts = [path.stem for path in Path(tally.__file__).parent.glob("*.py") if "fault_parser(" in path.read_text()]
    assert sorted(written) == sorted({*scripts} - {"tally"})


def test_a_table_counts_outcomes_and_takes_the_place_of_the_one_before(document: Path) -> None:
    counted = Tally()
    for outcome in ("the same bytes", "it had ended", "the same bytes"):
        counted.note(FAULT, outcome)
    counted.remark(FAULT, "after 3 s")
    assert counted.finish("pack", write=True) == 0
    row = f"| {FAULT} | 3 | 2 the same bytes; 1 it had ended (after 3 s) |"
    table = f"\n`python -m chaos.pack --kills 2`:\n\n| fault | tried | what happened |\n|---|---:|---|\n{row}\n\n"
    before, after = DOCUMENT.read_text(), document.read_text()
    pattern = r"(?<=<!-- faults:pack -->\n).*(?=<!-- /faults:pack -->)"
    assert after == re.sub(pattern, lambda _: table, before, flags=re.DOTALL)
    assert after != before


@pytest.mark.parametrize("wrong", ["other bytes", ""])
def test_a_trial_that_went_wrong_fails_the_command_and_writes_nothing(
    wrong: str, document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = Tally()
    counted.note(FAULT, "the same bytes")
    counted.note(FAULT, "the same bytes", wrong)
    assert counted.finish("pack", write=True) == 1
    assert f"WRONG  {FAULT}: {wrong}" in capsys.readouterr().err
    assert document.read_text() == DOCUMENT.read_text()
