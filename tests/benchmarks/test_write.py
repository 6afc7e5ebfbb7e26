"""docs/benchmarks.md is written by the benchmarks themselves, each section between markers of its own."""

import re
import shutil
from pathlib import Path

import pytest

from benchmarks.document import replaced
from benchmarks.write import DOCUMENT, SECTIONS, main, run
from configs import UserError
from tests.runs import CONFIG, SMALL

QUICK = ("loader", "memory")  # one that is formatted, one that is shown as it is printed


def test_the_document_has_markers_for_every_section_and_no_other():
    assert re.findall("<!-- bench:(.*?) -->", DOCUMENT.read_text()) == list(SECTIONS)
    for name in SECTIONS:
        replaced(DOCUMENT.read_text(), name, "")


@pytest.mark.slow
def test_measured_sections_are_replaced_and_the_rest_stays(split: Path, tmp_path: Path):
    document = tmp_path / "benchmarks.md"
    shutil.copy(DOCUMENT, document)
    command = ["-c", str(CONFIG), *SMALL, f"data.shards={split.parent}", "-o", str(document), "--quick"]
    assert main([*command, "--only", *QUICK]) == 0
    before, after = (dict(sections(path.read_text())) for path in (DOCUMENT, document))
    assert {name for name in after if after[name] != before[name]} == set(QUICK)
    loader = after["loader"]
    assert "python -m pipeline.profile -c" in loader
    assert str(split.parent) not in loader
    assert re.search(r"\| \*\*the loader\*\*, as the config has it \| [0-9.]+ \(", loader)
    assert "8 clips of frames of 96 x 64" in loader
    assert re.search(r"```text\n[0-9.]+ MiB", after["memory"])
    assert all("Measured on " in after[name] for name in QUICK)


def sections(document: str) -> list[tuple[str, str]]:
    """(name, body) of each section, and what stands between them under no name of its own."""
    parts = re.split(r"<!-- bench:(\w+) -->(.*?)<!-- /bench:\w+ -->", document, flags=re.DOTALL)
    return [("prose", "".join(parts[::3])), *zip(parts[1::3], parts[2::3], strict=True)]


def test_a_document_without_the_markers_is_refused():
    with pytest.raises(UserError, match="no <!-- bench:loader -->"):
        replaced("# Benchmarks", "loader", "")


def test_a_benchmark_that_fails_is_said():
    with pytest.raises(UserError, match=r"python -m benchmarks.nowhere --rounds 1: failed with exit code 1"):
        run("benchmarks.nowhere", ["--rounds", "1"])
