"""The page that reports share: escaped, self-contained, the same bytes for the same content."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from aqcl.comparison import TOO_LITTLE
from aqcl.figures import best_so_far_figure, latents_figure
from aqcl.report.page import (
    Cell,
    Section,
    figure,
    interval_bar,
    number,
    reach_of,
    render_page,
    table,
)

NASTY = '<script>alert("x")</script> & "quotes" \'too\''


class Outline(HTMLParser):
    """Tags with their attributes, in order, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.tags if "id" in attributes]


def drawing() -> Figure:
    return best_so_far_figure({NASTY: [0.5, 0.6], "$x_$": [0.4, 0.7], "_base": [0.3]}, "AUC")


def whole_page() -> str:
    cells = table(["Name", "#Number"], [[NASTY, number(0.5)], ["b", number(None)]], NASTY)
    shapes = figure(drawing(), "one", NASTY, NASTY) + figure(drawing(), "two", "c", "alt")
    sections = [Section(NASTY, "first", cells), Section("Second", "second", shapes)]
    return render_page(NASTY, NASTY, sections, [NASTY])


def test_what_users_chose_is_text_and_never_markup() -> None:
    outline = Outline(whole_page())
    assert [tag for tag, _ in outline.tags].count("script") == 1  # the page's own
    assert outline.text.count('<script>alert("x")</script>') >= 7
    assert outline.text.count("$x_$") == 2  # in the legends of both figures
    assert outline.text.count("_base") == 2


def test_nothing_comes_from_elsewhere() -> None:
    page = whole_page()
    assert not re.search(r"https?:|//[a-z]|@import|<iframe|<object", page)
    for tag, attributes in Outline(page).tags:
        for name in ("src", "href", "xlink:href"):
            link = attributes.get(name)
            assert link is None or link.startswith(("#", "data:")), (tag, link)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_ids_are_unique_and_every_reference_has_its_target() -> None:
    page = whole_page()
    ids = Outline(page).ids()
    assert len(ids) == len(set(ids)) > 10
    used = re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]+)\)", page)
    assert used
    assert set(used) <= set(ids)


def test_the_same_content_gives_the_same_bytes() -> None:
    assert whole_page() == whole_page()


def test_figures_take_the_colours_of_the_page_and_say_what_they_show() -> None:
    markup = figure(drawing(), "one", "caption", "two lines that rise")
    assert "var(--c0)" in markup
    assert "var(--c1)" in markup
    assert not re.search(r"#0072B2|#6E6E6E", markup, re.IGNORECASE)
    assert 'role="img" aria-label="two lines that rise"' in markup
    assert "<figcaption>caption</figcaption>" in markup


def test_a_figure_with_pixels_keeps_its_own_colours() -> None:
    points = np.random.default_rng(0).normal(size=(20, 2))
    drawn = latents_figure({"": points}, np.arange(20) % 3, legend=True)
    markup = figure(drawn, "one", "caption", "points")
    assert '<figure><svg class="pixels"' in markup
    assert "data:image/png" in markup
    assert "#0072b2" in markup  # of the legend, as in the pixels
    assert "var(--c" not in markup
    assert "pixels" not in figure(drawing(), "one", "caption", "lines")


def test_a_section_without_content_is_left_out() -> None:
    page = render_page(
        "t", "s", [Section("Empty", "empty", ""), Section("Full", "full", "<p>x</p>")]
    )
    assert "Empty" not in page
    assert 'id="full"' in page


def test_tables_are_labelled_and_columns_of_numbers_are_marked() -> None:
    markup = table(["Name", "#AUC"], [[NASTY, number(0.51234)]], "caption")
    assert "<caption><span>caption</span></caption>" in markup
    assert markup.count('scope="col"') == 2
    assert '<tr><th scope="row">&lt;script&gt;' in markup
    assert '<td class="number" data-value="0.51234">0.5123</td>' in markup


def test_long_names_may_go_on_in_the_next_line_and_numbers_may_not() -> None:
    markup = table(["Name", "#train.embedding_l2"], [["a_b.c+d 0.25", "x.y"]], "caption")
    assert ">train.<wbr>embedding_<wbr>l2<" in markup
    assert ">a_<wbr>b.<wbr>c+<wbr>d 0.25<" in markup
    assert ">x.y<" in markup


@pytest.mark.parametrize(
    ("value", "low", "high", "x1", "x2"),
    [(0.0, -0.01, 0.01, "26.00", "74.00"), (0.01, 0.0, 0.02, "50.00", "98.00")],
)
def test_bars_stand_where_the_interval_is(
    value: float, low: float, high: float, x1: str, x2: str
) -> None:
    markup = interval_bar(value, low, high, 0.02, "better").markup
    assert f'x1="{x1}" x2="{x2}"' in markup
    assert f"{value:+.4f}, interval {low:+.4f} to {high:+.4f}" in markup


def test_a_bar_never_leaves_its_cell_and_says_where_it_is_cut() -> None:
    both = interval_bar(0.0, -9.0, 9.0, 0.02, "").markup
    assert 'x1="7.00" x2="93.00"' in both
    assert both.count('class="cut"') == 2
    assert "interval -9.0000 to +9.0000; cut at 0.0200 from zero, where the arrow is" in both
    upper = interval_bar(0.0, -0.02, 9.0, 0.02, "").markup
    assert 'x1="2.00" x2="93.00"' in upper
    assert 'd="M92 0L99.5 6L92 12Z"' in upper
    assert upper.count('class="cut"') == 1
    whole = interval_bar(0.0, -0.02, 0.02, 0.02, "").markup
    assert "cut" not in whole


def test_too_few_users_do_not_make_the_other_bars_too_short() -> None:
    wide, narrow = (TOO_LITTLE, -0.9, 0.4), ("better", 0.01, 0.03)
    missing = ("no difference shown", None, None)
    assert reach_of([wide, narrow, ("worse", -0.02, -0.01), missing]) == 0.03
    assert reach_of([wide, missing]) == 0.9
    assert reach_of([missing]) == 0


def test_what_is_not_defined_has_no_bar() -> None:
    assert interval_bar(None, None, None, 0.02, "") == Cell("", "")
