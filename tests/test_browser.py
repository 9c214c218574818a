"""The built report in a real browser: offline, complete, readable on a phone, light and dark."""

from __future__ import annotations

import functools
import http.server
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import chromium

pytestmark = pytest.mark.browser

HTML = Path(os.environ.get("SPARSESTUDY_HTML", Path(__file__).resolve().parents[1] / "book/_build/html"))
PAGES = ("index", "accuracy", "methods", "compare", "your-runs", "rerun", "environment")
SCREENS = [(1280, "light"), (1280, "dark"), (375, "light"), (375, "dark")]
WORD = "sparsity"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def report() -> Path:
    if not (HTML / "index.html").is_file():
        pytest.skip("no built report; make report builds it")
    return HTML


@pytest.fixture(scope="module", params=["file", "http"])
def base(request: pytest.FixtureRequest, report: Path) -> Iterator[str]:
    """Where the report is opened from: the disk, or a server on this machine."""
    if request.param == "file":
        yield report.as_uri()
        return
    handler = functools.partial(_Quiet, directory=str(report))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        engine = driver.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield engine
        engine.close()


class Visit:
    """A browser page that lets nothing leave the machine, and notes what tried to and what complained."""

    def __init__(self, browser: Any, base: str, width: int, scheme: str) -> None:
        self.base = base
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.context.set_default_timeout(20_000)
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on(
            "console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _route(self, route: Any) -> None:
        if route.request.url.startswith((self.base, "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def open(self, name: str) -> Any:
        self.page.goto(f"{self.base}/{name}")
        self.page.wait_for_timeout(100)  # for what the page asks for after it has loaded
        return self.page


@pytest.fixture(params=SCREENS, ids=lambda screen: f"{screen[0]}-{screen[1]}")
def visit(request: pytest.FixtureRequest, browser: Any, base: str) -> Iterator[Visit]:
    visit = Visit(browser, base, *request.param)
    yield visit
    visit.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole_and_offline(visit: Visit, name: str) -> None:
    page = visit.open(f"{name}.html")
    assert visit.outside == []
    assert visit.errors == []
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] == widths[1], "the page scrolls sideways"
    assert page.locator("article h1").inner_text()
    _check_figures(page)
    assert not re.search(r"\bnan\b|None|\{glue", page.locator("article").inner_text())


def _check_figures(page: Any) -> None:
    """In each figure exactly one drawing is visible, it is loaded, fits its column and has words for it."""
    for figure in page.locator("figure.study-figure").all():
        figure.scroll_into_view_if_needed()
        images = [image for image in figure.locator("img").all() if image.is_visible()]
        assert len(images) == 1
        image = images[0]
        assert image.evaluate("i => i.complete || new Promise(done => { i.onload = () => done(true); })")
        assert image.evaluate("i => i.naturalWidth") > 100
        assert len(image.get_attribute("alt")) > 80
        assert image.bounding_box()["width"] <= page.viewport_size["width"]
        dark = page.evaluate("document.documentElement.dataset.theme") == "dark"
        source = image.evaluate("i => i.currentSrc")
        assert ("-dark.svg" in source) == dark
        assert ("-narrow" in source) == (page.viewport_size["width"] < 640)


def test_mathematics_is_drawn(visit: Visit) -> None:
    page = visit.open("accuracy.html")
    page.wait_for_selector("mjx-container[display=true]")
    box = page.locator("mjx-container[display=true]").first.bounding_box()
    assert box["height"] > 20
    assert page.locator("mjx-merror").count() == 0
    assert "\\frac" not in page.locator("article").inner_text()


def test_search_finds_a_word(visit: Visit) -> None:
    page = visit.open(f"search.html?q={WORD}")
    page.wait_for_selector("#search-results li a")
    targets = [link.get_attribute("href") for link in page.locator("#search-results li a").all()]
    assert any(target and "accuracy.html" in target for target in targets)
    assert visit.outside == []
    assert visit.errors == []


def test_wide_tables_scroll_in_their_own_box(visit: Visit) -> None:
    page = visit.open("rerun.html")
    box = page.locator(".study-table").first
    inner, outer = box.evaluate("b => [b.scrollWidth, b.clientWidth]")
    assert outer <= page.viewport_size["width"]
    assert box.get_attribute("tabindex") == "0"
    assert box.get_attribute("aria-label")
    if page.viewport_size["width"] < 640:
        assert inner > outer


def test_every_link_of_the_report_leads_somewhere(report: Path) -> None:
    for file in report.glob("*.html"):
        text = file.read_text(encoding="utf-8")
        for link in re.findall(r'(?:href|src|srcset)="([^"]+)"', text):
            if re.match(r"(https?:|mailto:|data:|javascript:)", link):
                continue
            target, _, anchor = link.partition("#")
            path = file.parent / target.split("?")[0] if target else file
            assert path.exists(), f"{file.name}: {link}"
            if anchor and path.suffix == ".html":
                content = path.read_text(encoding="utf-8")
                assert f'id="{anchor}"' in content or f'name="{anchor}"' in content, f"{file.name}: {link}"
