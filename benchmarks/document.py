"""Sections of a document that commands write: between markers of their own, the text around them stays."""

import re
from pathlib import Path

from common.errors import UserError
from common.files import atomic_write


def replaced(document: str, name: str, body: str, kind: str = "bench") -> str:
    """`document` with another body between the markers of `name`.

    Raises:
        UserError: the markers are not there.
    """
    begin, end = f"<!-- {kind}:{name} -->", f"<!-- /{kind}:{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(document):
        raise UserError(f"the document has no {begin} with a {end} after it; write them where the table is to stand")
    return pattern.sub(lambda _: f"{begin}\n{body}\n{end}", document)


def write_section(path: Path, name: str, body: str, kind: str = "bench") -> None:
    """Put `body` between the markers of `name` in the document at `path`.

    Raises:
        UserError: the markers are not there, or the document cannot be written.
    """
    document = replaced(path.read_text("utf-8"), name, body, kind)
    with atomic_write(path, "w") as file:
        file.write(document)
