"""A run's page: what it says, and that a browser shows it, sorts, searches, and finds nothing to complain of."""

import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from configs import Config
from engine.report import __main__ as command
from engine.report.page import page_of, write_page
from engine.runs import ensemble
from tests import runs
from tests.engine.report.reported import NAMES, write_run, write_scores

data, one_thread = runs.data, runs.one_thread  # fixtures
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")
def config(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Config:
    return write_run(tmp_path_factory.mktemp("reported"), data)


@pytest.fixture(scope="module")
def run(config: Config) -> Path:
    return config.runs / config.name


@pytest.fixture(scope="module")
def page(config: Config, run: Path) -> Path:
    write_page(run / "report.html", config, run, run / "test", "test")
    return run / "report.html"


class Tags(HTMLParser):
    """The names and attributes of a page's elements, and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_has_all_that_a_reader_needs_and_loads_nothing(page: Path, run: Path) -> None:
    tags = Tags(page)
    for part in ("Trained on", "Curves", "Classes", "Confusions", "Surest mistakes", "Least sure hits", "Machine"):
        assert part in tags.text
    assert "P03_01_" in tags.text
    assert [element for element in tags.elements if element[0] in ("link", "iframe", "object")] == []
    sources = [value for _, each in tags.elements for name, value in each.items() if name in ("src", "href")]
    assert [source for source in sources if source and not source.startswith(("data:image/", "#"))] == []
    assert len([each for tag, each in tags.elements if tag == "img"]) == 3  # the test split's clips, right or wrong
    assert page.stat().st_size < 5_000_000
    assert page_of(run / "test") == page


def test_all_that_comes_from_data_is_text(page: Path) -> None:
    tags = Tags(page)
    assert len([tag for tag, _ in tags.elements if tag == "script"]) == 1
    assert "<b>cut" not in page.read_text("utf-8")
    assert NAMES[0] in tags.text
    assert NAMES[1] in tags.text


def test_without_shards_the_page_says_so_and_has_the_rest(config: Config, run: Path, tmp_path: Path) -> None:
    gone = config.model_copy(update={"data": config.data.model_copy(update={"shards": tmp_path / "gone"})})
    write_page(tmp_path / "page.html", gone, run, run / "test", "test")
    tags = Tags(tmp_path / "page.html")
    assert "Their frames cannot be shown" in tags.text
    assert str(tmp_path / "gone") in tags.text
    assert not [tag for tag, _ in tags.elements if tag == "img"]
    assert "Surest mistakes" in tags.text


def test_without_a_run_or_a_scored_split_it_is_about_what_there_is(config: Config, run: Path, tmp_path: Path) -> None:
    write_page(tmp_path / "a.html", config, None, run / "test", "test")
    assert "Surest mistakes" in Tags(tmp_path / "a.html").text
    assert "Curves" not in Tags(tmp_path / "a.html").text
    write_page(tmp_path / "b.html", config, run, None, "test")
    text = Tags(tmp_path / "b.html").text
    assert "No split has been scored" in text
    assert "Curves" in text


def test_it_is_written_anew_by_a_command(config: Config, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scores(config, run / "val", "val")
    assert command.main([str(run), "--scored", "val"]) == 0
    assert Tags(run / "val" / "report.html").text.count("P02_") >= 6
    assert command.main([str(run / "test")]) == 1
    assert "no run's folder: it has no config.yaml" in capsys.readouterr().err


def test_a_line_of_the_log_that_was_cut_off_is_passed_over(config: Config, run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    (tmp_path / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text() + '{"kind": "val", "ep')
    write_page(tmp_path / "page.html", config, tmp_path, None, "test")
    assert "Curves" in Tags(tmp_path / "page.html").text


def test_an_ensemble_has_a_page_too(run: Path) -> None:
    assert ensemble.main([str(run), str(run / "test"), "-o", str(run.parent / "fused"), "--quiet"]) == 0
    tags = Tags(run.parent / "fused" / "report.html")
    assert f"Scored: 1 x {run} + 1 x {run}/test, mean of softmax." in tags.text
    assert "ensemble" in tags.text
    assert "reported+test" in tags.text
    assert len([tag for tag, _ in tags.elements if tag == "img"]) == 3


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (the extra dev)")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))  # its profile is new, and removed
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_browser_shows_sorts_and_searches_it(browser: Any, page: Path, width: int, theme: str) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=theme)
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
    tab.goto(page.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    brightness = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
    assert (min(brightness[:3]) > 200) is (theme == "light")

    def names() -> list[str]:
        return tab.locator("#classes0 tbody tr:visible td:first-child").all_inner_texts()

    heading, accuracy = tab.locator("#classes0 th").nth(0), tab.locator("#classes0 th").nth(3)
    heading.get_by_role("button").click()
    assert names() == sorted(names(), key=str.lower)
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert names() == sorted(names(), key=str.lower, reverse=True)
    accuracy.get_by_role("button").click()
    shares = [float(text.rstrip("% ")) for text in tab.locator("#classes0 tbody td:nth-child(4)").all_inner_texts()]
    assert shares == sorted(shares)
    tab.get_by_placeholder("a class").fill("POUR")
    assert names() == ["pour"]
    tab.get_by_role("button", name="Pause").first.click()
    assert tab.evaluate("document.getAnimations().every((each) => each.playState === 'paused')")
    assert complaints == []
    tab.close()
