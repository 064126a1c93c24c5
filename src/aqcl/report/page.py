"""The page that all reports share: one HTML file that needs nothing from elsewhere."""

import html
import io
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from aqcl import __version__
from aqcl.comparison import TOO_LITTLE
from aqcl.figures import COLORS, GRAY, PALE, STYLE

INK: Final = {
    **{color.lower(): f"var(--c{number})" for number, color in enumerate(COLORS)},
    GRAY.lower(): "var(--muted)",
    PALE.lower(): "var(--line)",
    "#000000": "var(--ink)",
}
"""Colours of figures as those of the page, which differ in the dark."""
PIXELS: Final = 96
"""Of the page, in an inch of a figure."""
WIDE: Final = 544
"""Pixels from which on a figure scrolls where the page is narrow, lest its text is too small."""
LEAST: Final = 0.85
"""Of its width, to which such a figure shrinks at most."""


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    title: str
    anchor: str
    html: str
    """Markup; what users chose is escaped by those who make it."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str = ""
    value: float | int | str | None = None
    """What it is sorted by; its text if None."""
    markup: str = ""
    """Markup in place of the text."""
    style: str = ""
    """CSS classes."""
    under: str = ""
    """What stands below the head of a row where the page is too narrow for all columns."""


def render_page(
    title: str, subtitle: str, sections: Iterable[Section], warnings: Iterable[str] = ()
) -> str:
    """A whole page.

    Args:
        title: plain text.
        subtitle: plain text.
        sections: in order; one without markup is left out.
        warnings: plain text, shown on top.
    """
    files = resources.files("aqcl.report")
    css, js, template = (
        files.joinpath(f"page.{ending}").read_text(encoding="utf-8")
        for ending in ("css", "js", "html")
    )
    shown = [
        {"title": s.title, "anchor": s.anchor, "html": Markup(s.html)} for s in sections if s.html
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        title=title,
        subtitle=subtitle,
        warnings=list(warnings),
        sections=shown,
        version=__version__,
        css=Markup(css),
        js=Markup(js),
    )


def text(value: object) -> str:
    """Plain text as markup."""
    return html.escape(str(value))


def paragraph(value: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{text(value)}</p>"


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[Cell | str]],
    caption: str,
    aside: Container[str] = (),
) -> str:
    """A table whose columns sort by a click or the keyboard.

    Args:
        headings: plain text; one that begins with `#` is that of a column of numbers.
        rows: cells or plain text; the first of a row says what it is of.
        caption: plain text.
        aside: headings of columns that a narrow page leaves out.
    """
    styles = [
        " ".join(filter(None, ["number" * heading.startswith("#"), "aside" * (heading in aside)]))
        for heading in headings
    ]
    head = "".join(
        f'<th scope="col"{_class(style)}>'
        f'<button type="button">{_breakable(heading.removeprefix("#"))}</button></th>'
        for heading, style in zip(headings, styles, strict=True)
    )
    lines = []
    for row in rows:
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        tags = ['th scope="row"', *["td"] * (len(cells) - 1)]
        lines.append("<tr>" + "".join(map(_cell, cells, styles, tags)) + "</tr>")
    body = "\n".join(lines)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{text(caption)}">'
        f'<table class="sortable"><caption><span>{text(caption)}</span></caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _breakable(name: str) -> str:
    """A name as markup that may go on in the next line behind a dot, and where words are joined."""
    return re.sub(r"(?<=[._+/])(?=[^\W\d])", "<wbr>", text(name))


def _cell(cell: Cell, style: str, tag: str) -> str:
    """A cell in a column of that style."""
    value = "" if cell.value is None else f' data-value="{text(cell.value)}"'
    style = _class(" ".join(filter(None, [style, cell.style])))
    under = f' data-under="{text(cell.under)}"' if cell.under else ""
    told = _breakable(cell.text) if tag.startswith("th") else text(cell.text)
    return f"<{tag}{style}{value}{under}>{cell.markup or told}</{tag[:2]}>"


def _class(names: str) -> str:
    return f' class="{text(names)}"' if names else ""


def number(value: float | None, digits: int = 4) -> Cell:
    """A number, sorted as such; empty where there is none."""
    return Cell("", "") if value is None else Cell(f"{value:.{digits}f}", value)


def reach_of(judged: Iterable[tuple[str, float | None, float | None]]) -> float:
    """What half the width of bars stands for: the farthest end of an interval, 0 without any.

    Args:
        judged: verdict, lower and upper end of each difference. Where there are others, those of
            too few users are left out: their bars end where their cells do, and would else make
            all others too short to be read.
    """
    known = [
        (v, max(-low, high)) for v, low, high in judged if low is not None and high is not None
    ]
    told = [end for verdict, end in known if verdict != TOO_LITTLE]
    return max(told or [end for _, end in known], default=0.0)


def interval_bar(
    value: float | None, low: float | None, high: float | None, reach: float, style: str
) -> Cell:
    """A difference with its interval as a bar around zero, told in words to screen readers.

    An end beyond the reach of bars is an arrow.

    Args:
        value: the difference.
        low: lower end of its interval.
        high: upper end.
        reach: what half the width of the bar stands for.
        style: `better`, `worse` or nothing.
    """
    if value is None or low is None or high is None or reach <= 0:
        return Cell("", "")

    def place(x: float) -> float:
        return 50 + 48 * max(-1.0, min(1.0, x / reach))

    label = f"{value:+.4f}, interval {low:+.4f} to {high:+.4f}"
    start, end, heads = place(low), place(high), ""
    if low < -reach:
        start, heads = 7.0, '<path class="cut" d="M8 0L0.5 6L8 12Z"/>'
    if high > reach:
        end, heads = 93.0, f'{heads}<path class="cut" d="M92 0L99.5 6L92 12Z"/>'
    if heads:
        label += f"; cut at {reach:.4f} from zero, where the arrow is"
    drawing = (
        f'<svg class="bar {style}" viewBox="0 0 100 12" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}"><title>{label}</title>'
        '<line class="axis" x1="50" x2="50" y1="0" y2="12"/>'
        f'<line class="range" x1="{start:.2f}" x2="{end:.2f}" y1="6" y2="6"/>{heads}'
        f'<rect class="point" x="{place(value) - 0.8:.2f}" y="1" width="1.6" height="10"/></svg>'
    )
    return Cell(value=value, markup=drawing)


def figure(drawn: Figure, name: str, caption: str, alt: str) -> str:
    """A figure as inline SVG in the colours of the page; a wide one scrolls on a narrow page.

    One that holds pixels, whose colours are fixed, keeps all its own, on white in the dark too.

    Args:
        drawn: with the colours of `aqcl.figures`.
        name: unique on the page; a prefix of the ids within.
        caption: plain text below it.
        alt: plain text in its place for those who cannot see it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        drawn.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Names of the format are no addresses, but nothing on the page shall look like one.
    svg = re.sub(r'\s*xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    # matplotlib numbers parts by what they are (axes_1): unique only within one figure.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    has_pixels = "<image" in svg
    if not has_pixels:
        svg = re.sub(r"#[0-9a-fA-F]{6}\b", lambda m: INK.get(m[0].lower(), m[0]), svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font: \1 system-ui, sans-serif", svg)
    svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", svg)
    svg = _sized(svg, drawn)
    opening = f'<svg{_class("pixels" if has_pixels else "")} role="img" aria-label="{text(alt)}"'
    svg = svg.replace("<svg", opening, 1)
    width = drawn.get_figwidth() * PIXELS
    if width > WIDE:
        svg = (
            f'<div class="scroll" tabindex="0" role="group" aria-label="{text(alt)}" '
            f'style="--least: {LEAST * width:.0f}px">{svg}</div>'
        )
    return f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>"


def _sized(svg: str, drawn: Figure) -> str:
    width, height = drawn.get_size_inches() * PIXELS
    svg = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*pt"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*pt"', r"\1", svg)
    return svg.replace("<svg", f'<svg width="{width:.0f}" height="{height:.0f}"', 1)
