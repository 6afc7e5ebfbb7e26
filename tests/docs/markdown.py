"""What the Markdown files and the commands' own help promise: commands, links, quoted messages."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDS = ("cluster", "epic", "gpu", "network", "time")  # why a block is not run; CONTRIBUTING.md says what each means
_MARKER = re.compile(r"<!-- needs: ([a-z]+) -->")
_FENCE = re.compile(r"```(\w*)")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
_FILE = re.compile(r"(?<![\w./-])\w[\w/]*\.py\b")
_COMMAND = re.compile(r"(python|make|torchrun|xnorm-[a-z]+) ")


@dataclass(frozen=True)
class Command:
    """A command line as it is written in `source`, and what it needs that a test has not."""

    source: str  # file:line
    text: str
    needs: str | None

    @property
    def words(self) -> list[str]:
        """Its words as a shell splits them, without what is set before it and without its comment."""
        words = shlex.split(self.text, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        return words

    def __str__(self) -> str:
        return f"{self.source}: {self.text}"


def documents() -> list[Path]:
    """Every Markdown file of the project, the README first, whose steps the others build on."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    return sorted(found, key=lambda path: (path.name != "README.md", path))


def block_commands(path: Path) -> Iterator[Command]:
    """The commands in the `sh` blocks of a Markdown file; a marker stands on the line before its block."""
    needs, language, pending, begin = None, None, "", 0
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and language is None:
            language = fence[1]
        elif fence:
            language, needs = None, None
        elif language == "sh":
            begin = begin if pending else number
            pending += line.removesuffix("\\")
            if not line.endswith("\\"):
                command = Command(f"{_name(path)}:{begin}", pending.strip(), needs)
                pending = ""
                if command.words:
                    yield command
        elif language is None and line:
            marker = _MARKER.fullmatch(line)
            needs = marker[1] if marker else None


def inline_commands(path: Path) -> Iterator[Command]:
    """The commands that stand whole in a Markdown file's text, or in a YAML file's comments."""
    is_yaml = path.suffix == ".yaml"
    is_code = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        is_code ^= line.startswith("```")
        found = [line.removeprefix("#").strip()] if is_yaml and line.startswith("#") else _INLINE.findall(line)
        for text in found:
            if _COMMAND.match(text) and not is_code and "..." not in text:
                yield Command(f"{_name(path)}:{number}", text, None)


def help_commands(name: str, text: str) -> Iterator[Command]:
    """The examples in a command's help."""
    for line in text.splitlines():
        if line.startswith("  ") and _COMMAND.match(line.strip()) and "..." not in line:
            yield Command(name, line.strip(), None)


def links(path: Path) -> Iterator[str]:
    """The targets of a Markdown file's links and pictures."""
    return (match[1] for match in _LINK.finditer(path.read_text("utf-8")))


def named_files(path: Path) -> Iterator[str]:
    """The sources that a Markdown file names in its text and its diagrams."""
    text = re.sub(r"^```sh\n.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return iter(_FILE.findall(text))


def section(path: Path, heading: str) -> str:
    """The text below a heading of the second level, up to the next.

    Raises:
        AssertionError: there is no such heading.
    """
    parts = re.split(r"^## (.*)$", path.read_text("utf-8"), flags=re.MULTILINE)
    assert heading in parts[1::2], f"{path.name} has no section {heading}"
    return parts[parts.index(heading, 1) + 1]


def table(path: Path, heading: str, *columns: str) -> list[dict[str, str]]:
    """The rows of those tables below a heading that have these columns, each by the names of its columns."""
    rows = []
    header: list[str] = []
    for line in section(path, heading).splitlines():
        cells = re.split(r"\s*\|\s*", line)[1:-1]
        if not header or not cells:
            header = cells
        elif set(columns) <= set(header) and not set(line) <= set("|-: "):
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))
