"""The pictures of the documents: all are shown, and small enough for a repository."""

from pathlib import Path

import pytest
from PIL import Image

from docs.pictures import EXAMPLE, IMAGES, MOST_BYTES, MOST_PAGE_BYTES
from tests.docs.markdown import documents

PICTURES = sorted(IMAGES.glob("*.png"))


def test_the_pictures_are_those_that_the_documents_show() -> None:
    text = "".join(path.read_text("utf-8") for path in documents())
    assert PICTURES
    assert [path.name for path in PICTURES if f"img/{path.name})" not in text] == []


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_small_and_whole(path: Path) -> None:
    assert path.stat().st_size <= MOST_BYTES
    with Image.open(path) as picture:
        picture.load()
        assert picture.width > 600


def test_the_example_is_a_whole_page_with_moving_clips_and_no_path_of_a_machine() -> None:
    page = EXAMPLE / "report.html"
    text = page.read_text("utf-8")
    assert page.stat().st_size <= MOST_PAGE_BYTES
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>")
    assert text.count("data:image/webp") == 40  # mistakes, and hits
    assert [part for part in ("/tmp/", "/home/", "/root/") if part in text] == []
