"""The figures of the paper, from outcomes that are stored or made up."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from aqcl.figures import save
from aqcl.reproduce.markdown import markdown
from aqcl.reproduce.page import paper_page
from aqcl.reproduce.pictures import (
    activity_figure,
    alpha_curves_figure,
    comparison_figure,
    figure_caption,
    interests_figure,
)
from aqcl.reproduce.results_page import read_outcomes
from tests.report.test_page import Outline

STORED = Path(__file__).parents[2] / "results" / "paper"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    return {outcome["name"]: outcome for outcome in read_outcomes(STORED)}


def drawn(figure: Figure) -> Figure:
    """The figure with everything in its place."""
    figure.canvas.draw()
    return figure


def test_the_clicks_of_users_are_told_in_full_numbers(tmp_path: Path) -> None:
    activity = {"clicks": [1, 10, 1000], "users": [5, 3, 1], "thresholds": [1, 10]}
    (file,) = save(activity_figure(activity, "cost $5 vs $6"), tmp_path / "figure", ("svg",))
    text = Outline(file.read_text()).text
    assert "1,000" in text
    assert "math" not in text
    assert "cost $5 vs $6" in text


def test_numbers_of_axes_do_not_run_together(outcomes: dict[str, dict[str, Any]]) -> None:
    compared = [c for outcome in outcomes.values() for c in outcome["comparisons"]]
    # The short ones, with few methods, are where numbers of neighbouring panels met.
    shown = [c for c in compared if c["comparison"] is not None and len(c["cells"]) < 4]
    assert len(shown) > 9
    for comparison in shown:
        figure = drawn(comparison_figure(comparison))
        boxes = [
            label.get_window_extent()
            for axes in figure.axes
            for label in axes.get_xticklabels()
            if axes.get_xlim()[0] <= label.get_position()[0] <= axes.get_xlim()[1]
        ]
        assert len(boxes) >= 2 * len(figure.axes), comparison["id"]
        gaps = [right.x0 - left.x1 for left, right in pairwise(boxes)]
        assert min(gaps) > boxes[0].height / 2, (comparison["dataset"], comparison["id"])


def test_no_curve_of_alpha_runs_through_the_legend() -> None:
    flat = {"w1": 0.001, "w2": 0.001, "trials": [{"w1": 1.0, "w2": 1.0}]}
    for trials, told in ((True, ["A: w1 0.001, w2 0.001", "thin: all trials"]), (False, None)):
        figure = drawn(alpha_curves_figure({"a": flat}, {"a": "A"}, trials=trials))
        (axes,) = figure.axes
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_window_extent().y0 >= axes.get_window_extent().y1
        assert [entry.get_text() for entry in legend.get_texts()] == (
            told or ["A: w1 0.001, w2 0.001"]
        )


def test_the_colours_of_interests_are_told(outcomes: dict[str, dict[str, Any]]) -> None:
    found = outcomes["figure6"]["latents"]["beauty"]
    figure = drawn(interests_figure(found))
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "interest of AQCL"
    numbers = [int(entry.get_text()) for entry in legend.get_texts()]
    sizes = [found["interest"].count(number) for number in range(max(found["interest"]) + 1)]
    assert len(numbers) == 6
    assert min(sizes[number] for number in numbers) == sorted(sizes)[-6]
    assert legend.get_window_extent().y1 <= min(axes.get_window_extent().y0 for axes in figure.axes)


@pytest.mark.parametrize(
    ("name", "figure", "told"),
    [
        ("figure2", "figure2-ta-feng", "up to 22 clicks non-active, up to 66 slightly active"),
        ("figure4", "figure4-alpha", "all trials of the search (Amazon Beauty 12, Ta Feng 12"),
        (
            "figure6",
            "figure6-ta-feng",
            "3,000 validation rows of Ta Feng in the plane (t-SNE), seed",
        ),
    ],
)
def test_captions_say_how_to_read_a_figure(
    outcomes: dict[str, dict[str, Any]], name: str, figure: str, told: str
) -> None:
    caption = figure_caption(figure, outcomes[name])
    assert told in caption
    assert caption in markdown(outcomes[name], [figure])


def test_captions_do_not_tell_what_is_not_drawn(outcomes: dict[str, dict[str, Any]]) -> None:
    assert "Thin lines" not in figure_caption("figure5-alpha", outcomes["figure5"])


def test_a_page_has_captions_below_figures_and_titles_for_those_who_do_not_see_them(
    outcomes: dict[str, dict[str, Any]],
) -> None:
    page = paper_page([outcomes["figure4"]])
    caption = figure_caption("figure4-alpha", outcomes["figure4"])
    assert f"<figcaption>{caption}</figcaption>" in page
    outline = Outline(page)
    titles = [a.get("aria-label") for tag, a in outline.tags if tag == "svg"]
    assert titles == ["Figure 4: curves of alpha that a search meets"]
