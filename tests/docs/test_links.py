"""What the documents point at is there: links, headings, files."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, documents, links, named_files

WRITTEN_BY_READERS = {"my_fusion.py", "FILE.py"}
FOLDERS = ("", "configs", "docs", "tests", "benchmarks", "chaos")
PACKAGES = ("common", "configs", "preprocess", "pipeline", "models", "engine", "xnorm")


def anchors(path: Path) -> set[str]:
    """What a heading is called in links: lower case, without punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    missing = []
    for link in links(document):
        if not link.startswith(("http://", "https://")):
            name, _, anchor = link.partition("#")
            target = document.parent / name if name else document
            if not target.exists() or (anchor and anchor not in anchors(target)):
                missing.append(link)
    assert missing == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_sources_that_are_named_exist(document: Path) -> None:
    named = set(named_files(document)) - WRITTEN_BY_READERS
    there = {path.name for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    missing = [name for name in named - there if not any((ROOT / folder / name).exists() for folder in FOLDERS)]
    assert missing == []


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    waiting = list(reached)
    while waiting:
        document = waiting.pop()
        targets = {(document.parent / link.partition("#")[0]).resolve() for link in links(document)}
        new = {target for target in targets if target.suffix == ".md" and target.exists()} - reached
        reached |= new
        waiting += new
    assert set(documents()) <= reached


def test_every_source_is_on_the_map() -> None:
    """In its folder's row, and no other file is."""
    rows = re.findall(
        r"^\| `([\w/]+)/` \|.*\| (.*) \|$", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE
    )
    mapped = {f"{folder}/{name}" for folder, names in rows for name in re.findall(r"`(\w+\.py)`", names)}
    there = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert mapped == {path.as_posix() for path in there if path.name != "__init__.py"}
