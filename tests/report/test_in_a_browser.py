"""The page in a real browser: no errors, columns that sort, dark, narrow and printed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from aqcl.figures import best_so_far_figure, latents_figure
from aqcl.report.page import Cell, Section, figure, interval_bar, number, render_page, table

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
CAPTION = "Its caption is longer than a phone is wide, and can be read without scrolling it."
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows: list[list[Cell | str]] = [
        [
            Cell("beta", under="no better"),
            number(0.75),
            interval_bar(0.01, 0.0, 0.02, 0.02, "better"),
        ],
        ["alpha", number(None), interval_bar(None, None, None, 0.02, "")],
        ["gamma", number(0.7), interval_bar(-0.01, -0.02, 0.0, 0.02, "worse")],
    ]
    drawn = figure(best_so_far_figure({"a": [0.5, 0.6]}, "AUC"), "f", "caption", "a line")
    points = latents_figure({"title": np.eye(9, 2)}, np.arange(9) % 3)
    drawn += figure(points, "points", "caption", "points")
    body = table(["Method", "#AUC", "Difference"], rows, "A table") + drawn
    wide = [[Cell("a method"), *(Cell("words that stay in a line") for _ in range(9))]]
    body += table(["Kind", *(f"#{k}" for k in range(9))], wide, f"A wide table. {CAPTION}")
    measures = [f"#What of the samples is measured {k}" for k in range(9)]
    body += table(["Model", *measures], [["din", *map(number, range(9))]], "Long headings")
    told: list[list[Cell | str]] = [["din", number(10_000.5), number(0.25), "many words " * 30]]
    body += table(["Model", "#A", "#B", "Text"], told, "Much text")
    body += table(["Of", "Users", "#Rate"], [["din", "all", number(0.7)]], "Cut", aside=("Users",))
    body += "<details><summary>Folded</summary><p id='folded'>Words</p></details>"
    path = tmp_path_factory.mktemp("page") / "report.html"
    warnings = [f"Beware of {'a_long_name' * 10}"]
    path.write_text(render_page("Title", "Subtitle", [Section("One", "one", body)], warnings))
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on(
        "request",
        lambda request: (
            problems.append(request.url) if request.url[:5] not in ("file:", "data:") else None
        ),
    )
    opened.goto(file.as_uri())
    yield opened
    assert problems == []
    opened.close()


def first_column(page: Page) -> list[str]:
    return [
        cell.strip() for cell in page.locator("table").first.locator("tbody th").all_inner_texts()
    ]


def test_a_column_of_numbers_sorts_both_ways_and_keeps_gaps_last(page: Page) -> None:
    assert first_column(page) == ["beta", "alpha", "gamma"]
    button = page.get_by_role("button", name="AUC")
    button.click()
    assert first_column(page) == ["gamma", "beta", "alpha"]
    assert page.locator("th").nth(1).get_attribute("aria-sort") == "ascending"
    button.click()
    assert first_column(page) == ["beta", "gamma", "alpha"]
    assert page.locator("th").nth(1).get_attribute("aria-sort") == "descending"


def test_the_keyboard_sorts_too(page: Page) -> None:
    page.get_by_role("button", name="Method").focus()
    page.keyboard.press("Enter")
    assert first_column(page) == ["alpha", "beta", "gamma"]
    page.keyboard.press("Space")
    assert first_column(page) == ["gamma", "beta", "alpha"]


def test_a_phone_does_not_scroll_sideways(page: Page) -> None:
    widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]


@pytest.mark.parametrize(("width", "shown"), [(390, '"no better"'), (1280, "none")])
def test_a_phone_shows_below_the_head_of_a_row_what_would_be_out_of_sight(
    page: Page, width: int, shown: str
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    content = "node => getComputedStyle(node, '::after').content"
    heads = page.locator("main .scroll").first.locator("tbody th")
    assert heads.nth(0).evaluate(content) == shown
    assert heads.nth(1).evaluate(content) == "none"


@pytest.mark.parametrize(
    ("width", "seen"), [(390, ["Of", "Rate"]), (1280, ["Of", "Users", "Rate"])]
)
def test_a_phone_leaves_columns_out_that_the_head_of_a_row_tells(
    page: Page, width: int, seen: list[str]
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    cut = page.get_by_role("table", name="Cut")
    assert cut.get_by_role("columnheader").all_inner_texts() == seen
    assert cut.locator("tbody > tr > :visible").count() == len(seen)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_wide_table_keeps_its_caption_and_its_first_column_in_sight(
    page: Page, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    region = page.get_by_role("group", name="A wide table")
    region.evaluate("node => node.scrollLeft = 200")
    assert region.evaluate("node => node.scrollLeft") == 200
    seen = region.bounding_box()
    assert seen is not None
    for part in ("caption span", "tbody th", "thead th:first-child"):
        box = region.locator(part).bounding_box()
        assert box is not None
        assert box["x"] == pytest.approx(seen["x"], abs=1)
        assert box["width"] >= 60  # not a column of single letters
        assert box["x"] + box["width"] <= seen["x"] + seen["width"] + 1
        ground = region.locator(part).evaluate("node => getComputedStyle(node).backgroundColor")
        assert part == "caption span" or ground == "rgb(20, 23, 27)"
    assert page.get_by_role("table", name=CAPTION).count() == 1


def test_long_headings_do_not_cut_a_table(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    region = page.get_by_role("group", name="Long headings")
    own, inner = region.evaluate("node => [node.clientWidth, node.scrollWidth]")
    assert inner <= own


def test_a_wide_figure_can_be_read_on_a_phone(page: Page) -> None:
    label = page.locator("figure .scroll svg text", has_text="best AUC").bounding_box()
    assert label is not None
    assert min(label["width"], label["height"]) > 10  # it is upright: the width of its line
    own, inner = page.evaluate(
        "[...document.querySelectorAll('figure .scroll')].map(n => [n.clientWidth, n.scrollWidth])"
    )[0]
    assert inner > own


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, file: Path, scheme: str) -> None:
    opened = browser.new_page(color_scheme="dark" if scheme == "dark" else "light")
    opened.goto(file.as_uri())
    names = ("--ink", "--muted", "--better", "--worse", "--c0")
    style = "getComputedStyle(document.documentElement).getPropertyValue"
    paper = opened.evaluate(f"{style}('--paper')")
    for name in names:
        assert contrast(opened.evaluate(f"{style}('{name}')"), paper) >= 4.5, (scheme, name)
    opened.close()


def test_pixels_and_their_text_have_a_white_ground_in_the_dark(page: Page) -> None:
    style = "([node, key]) => getComputedStyle(document.querySelector(node))[key]"
    assert page.evaluate(style, ["svg.pixels", "backgroundColor"]) == "rgb(255, 255, 255)"
    assert page.evaluate(style, ["svg.pixels text", "fill"]) == "rgb(0, 0, 0)"
    assert page.evaluate(style, ["body", "backgroundColor"]) == "rgb(20, 23, 27)"


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, as the accessibility guidelines of the web define it."""
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    color = color.strip().removeprefix("#")
    color = color if len(color) == 6 else "".join(2 * digit for digit in color)
    parts = [int(color[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_it_prints(browser: Browser, file: Path) -> None:
    opened = browser.new_page()
    opened.goto(file.as_uri())
    assert opened.pdf()[:4] == b"%PDF"
    opened.emulate_media(media="print")
    assert not opened.locator("nav").is_visible()
    first = opened.locator("main .scroll tbody th").first
    assert first.evaluate("node => getComputedStyle(node).position") == "static"
    seen = "node => node.checkVisibility({contentVisibilityAuto: true})"
    assert opened.locator("#folded").evaluate(seen)
    opened.emulate_media(media="screen")
    assert not opened.locator("#folded").evaluate(seen)
    opened.close()


def test_tables_fit_on_paper_and_numbers_stay_whole(browser: Browser, file: Path) -> None:
    opened = browser.new_page(viewport={"width": 720, "height": 1000})  # of A4
    opened.goto(file.as_uri())
    opened.emulate_media(media="print")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 720
    # Text that could take all of the width leaves numbers what they need.
    lines = (
        "node => { const all = document.createRange(); all.selectNodeContents(node);"
        " return all.getClientRects().length; }"
    )
    figures = opened.get_by_role("group", name="Much text").locator("td.number")
    assert [figure.evaluate(lines) for figure in figures.all()] == [1, 1]
    opened.close()


def test_paper_is_white_in_the_dark_too(browser: Browser, file: Path) -> None:
    names = ("--paper", "--ink", "--note", "--better", "--worse", "--c0")
    style = (
        "names => names.map(n => getComputedStyle(document.documentElement).getPropertyValue(n))"
    )
    found = []
    for scheme in ("light", "dark"):
        opened = browser.new_page()
        opened.goto(file.as_uri())
        opened.emulate_media(media="print", color_scheme="dark" if scheme == "dark" else "light")
        found.append(opened.evaluate(style, names))
        opened.close()
    assert found[0] == found[1]
    ink, note = found[1][1:3]
    assert contrast(ink, note) >= 4.5
