"""The page in Chromium: nothing is fetched, no script fails, nothing overflows, charts are drawn, tables are sorted."""

import shutil
from pathlib import Path

import pytest
from support.page_runs import run_tree
from support.small_runs import PCM

from noisylearn.report.page import rows_of, runs_page, write_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update", "disable-sync",
    "no-first-run",
)  # fmt: skip
EVIL = "<img src=https://example.org/x onerror=alert(1)>"
DRAWN = "html.drawn"
LINES = "document.querySelectorAll('figure')[0].querySelectorAll('.mark-line path').length"

DOTS = "document.querySelectorAll('figure')[2].querySelectorAll('.mark-symbol.role-mark path').length"


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as at_work:
        chromium = at_work.chromium.launch(executable_path=BROWSER, args=[f"--{one}" for one in ARGUMENTS])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page of three rows on two profiles, one of which failed, with a hostile name in it."""
    trees = [
        run_tree(seed=0, curve=(0.5, 0.7)), run_tree(seed=1, curve=(0.6, 0.75)), run_tree("bp", curve=(0.8, 0.95)),
        run_tree("lf", "gaussian-node", curve=(0.7, 0.9), text=None), run_tree("lf", PCM, status="stopped"),
    ]  # fmt: skip
    trees[2]["machine"] = EVIL
    for tree in trees[:4]:
        tree["baselines"] = tree["baselines"] | {EVIL: 0.93}
    file = tmp_path_factory.mktemp("page") / "report.html"
    found = rows_of({Path(f"{i}.h5"): tree for i, tree in enumerate(trees)})
    write_page(file, runs_page(found.comparisons, found.unread, found.notes))
    return file


@pytest.fixture
def opened(browser, page_file):
    """Open the page; at the end nothing else was asked for, and no script has failed."""
    contexts, asked, failed = [], [], []

    def call(width=1280, theme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda said: failed.append(said.text) if said.type in ("error", "warning") else None)
        page.goto(page_file.as_uri())
        page.wait_for_selector(DRAWN, state="attached", timeout=60_000)
        return page

    yield call
    for context in contexts:
        context.close()
    assert failed == []
    assert set(asked) == {page_file.as_uri()}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_page_is_drawn_and_fits(opened, width, theme):
    page = opened(width, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    charts = page.evaluate("[...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('svg path').length)")
    assert len(charts) >= 7
    assert min(charts) >= 4  # marks, beside what axes have
    wide = page.evaluate(
        "[...document.querySelectorAll('.chart svg')].filter(s => s.getBoundingClientRect().right > innerWidth).length"
    )
    assert wide == 0
    colors = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 27)"
    assert colors[0] == (light if theme == "light" else dark)
    assert colors[0] != colors[1]


def test_the_other_theme_is_a_click_away(opened):
    page = opened()
    background = "getComputedStyle(document.body).backgroundColor"
    label = "getComputedStyle(document.querySelector('.role-axis-label text')).fill"
    before = page.evaluate(f"[{background}, {label}]")
    page.click("#theme")
    after = page.evaluate(f"[{background}, {label}]")
    assert all(one != other for one, other in zip(before, after, strict=True))
    page.click("#theme")
    assert page.evaluate(f"[{background}, {label}]") == before
    page.click("#theme")
    page.emulate_media(media="print")  # on paper all is dark on white
    assert page.evaluate(f"[{background}, {label}]") == before


def test_tables_are_sorted_by_click_and_key(opened):
    """Scores 0.90, 0.725, 0.95 and of the baselines 0.1, 0.9, 0.93; the row that failed has none, and stays last."""
    page = opened()
    table = page.locator("table").first
    column = table.locator("thead button", has_text="accuracy")
    scores = "t => [...t.tBodies[0].rows].map(r => r.cells[2].dataset.order ?? '')"
    column.click()
    ascending = table.evaluate(scores)
    assert ascending == ["0.1", "0.725", "0.9", "0.9", "0.93", "0.95", ""]
    assert table.locator("th[aria-sort=ascending]").count() == 1
    column.press("Enter")
    assert table.evaluate(scores) == ["0.95", "0.93", "0.9", "0.9", "0.725", "0.1", ""]
    assert table.locator("th[aria-sort=descending] button").inner_text() == column.inner_text()


def test_legend_switches_lines_off_and_on(opened):
    page = opened()
    boxes = page.locator(".legend input")
    assert boxes.count() == page.evaluate(LINES) == 3
    assert page.evaluate(DOTS) == 7  # two rows with a day of drift, one without
    boxes.first.uncheck()
    page.wait_for_function(f"{LINES} === 2 && {DOTS} === 6")
    boxes.first.check()
    page.wait_for_function(f"{LINES} === 3")


def test_a_hostile_name_stays_text(opened):
    page = opened()
    assert page.locator("img").count() == 0
    assert page.locator("table").first.get_by_text(EVIL, exact=True).count() == 1
    assert page.locator("figure").first.locator("svg text", has_text=EVIL).count() == 1
