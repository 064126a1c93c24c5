"""Figures say what they show, are the same file each time, and need no window."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from aqcl.figures import (
    COLORS,
    MARKERS,
    alpha_figure,
    best_so_far_figure,
    curve_style,
    importance_figure,
    latents_figure,
    rungs_figure,
    save,
    trajectory_figure,
)


def drawn(figure: Figure, path: Path) -> str:
    save(figure, path)
    png = path.with_name(f"{path.name}.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    width = int.from_bytes(png[16:20], "big")
    assert width == 960  # 6.4 inches at 150 dots
    return path.with_name(f"{path.name}.svg").read_text()


def bars_of(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def alpha() -> Figure:
    activity = np.linspace(0, 30, 301)
    return alpha_figure(activity, np.exp(-activity / 6), np.array([1, 1, 2, 6, 60]), 6.0)


def test_alpha_before_the_histogram_of_activities(tmp_path: Path) -> None:
    figure = alpha()
    curve, shares = figure.axes
    line = curve.lines[0]
    assert np.asarray(line.get_ydata())[0] == 1
    heights = [bar.get_height() for bar in bars_of(shares)]
    assert heights[1:3] == [0.4, 0.2]
    assert sum(heights) == 0.8
    assert curve.get_zorder() > shares.get_zorder()
    text = drawn(figure, tmp_path / "alpha")
    for words in (
        "alpha: weight of the clusters",
        "share of users with a training click",
        "mean: 6.0 clicks",
        "activity: clicks of the user (20.0% of the users have more)",
    ):
        assert words in text


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    first, second = drawn(alpha(), tmp_path / "a"), drawn(alpha(), tmp_path / "b")
    assert first == second
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_best_values_leave_out_what_is_not_known_yet(tmp_path: Path) -> None:
    figure = best_so_far_figure({"din": [None, 0.7, 0.6], "none": [None]}, "validation auc")
    (axes,) = figure.axes
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [1, 2]
    assert np.asarray(axes.lines[1].get_xdata()).tolist() == []
    text = drawn(figure, tmp_path / "best")
    assert all(words in text for words in ("best validation auc", "trial", "din", "none"))
    low, high = axes.get_xlim()
    assert low < 0  # trial 0 has its place, though nothing was found by then
    assert high > 2
    (alone,) = best_so_far_figure({"din": [0.7]}, "auc").axes
    assert alone.get_legend() is None


def test_no_two_of_36_curves_look_alike() -> None:
    styles = [curve_style(number) for number in range(36)]
    assert len({(style["color"], style["marker"]) for style in styles}) == 36
    assert [style["color"] for style in styles[:6]] == list(COLORS)
    assert [style["marker"] for style in styles[:6]] == list(MARKERS)
    assert {style["linestyle"] for style in styles[:6]} == {"-"}
    assert styles[6]["linestyle"] == "--"


def test_the_seventh_curve_is_not_the_first() -> None:
    names = [f"method {k}" for k in range(7)]
    best = best_so_far_figure({name: [0.5, 0.6] for name in names}, "auc")
    course = trajectory_figure([4, 8], {name: [0.1, 0.2] for name in names}, 4, log=False)
    for figure in (best, course):
        curves = figure.axes[0].lines[: len(names)]
        assert len({(line.get_color(), line.get_marker()) for line in curves}) == len(names)


def test_what_alpha_was_during_a_training(tmp_path: Path) -> None:
    values = {"w1": [1.0, 0.8], "w2": [1.0, 1.2]}
    figure = trajectory_figure([4, 8], values, 8, log=True)
    (axes,) = figure.axes
    assert [np.asarray(line.get_ydata()).tolist() for line in axes.lines[:2]] == [*values.values()]
    assert axes.get_yscale() == "log"
    text = drawn(figure, tmp_path / "curve")
    assert all(words in text for words in (">w1<", ">w2<", ">kept<", ">step<", ">w1, w2<"))
    (axes,) = trajectory_figure([4, 8], {"beyond": [0.1, 0.2]}, 4, log=False).axes
    assert axes.get_ylim() == (0, 1.02)


def test_rungs_with_their_winner_in_colour(tmp_path: Path) -> None:
    candidates = {"0: w1 1": [(9, 0.7)], "1: w1 2": [(9, 0.6), (15, 0.5)]}
    figure = rungs_figure(candidates, "1: w1 2")
    (axes,) = figure.axes
    assert [np.asarray(line.get_xdata()).tolist() for line in axes.lines] == [[9], [9, 15]]
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    text = drawn(figure, tmp_path / "rungs")
    assert "1: w1 2" in text
    assert "0: w1 1" not in text


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({7: 9, 4: 8, 12: 7, 0: 6, 3: 5, 8: 4, 1: 3}, ["7", "4", "12", "0", "3", "8"]),
        ({7: 1, 4: 2}, ["4", "7"]),
    ],
)
def test_a_legend_tells_the_numbers_of_the_largest_interests(
    sizes: dict[int, int], expected: list[str]
) -> None:
    interest = np.repeat(list(sizes), list(sizes.values()))
    points = {"": np.zeros((len(interest), 2))}
    (axes,) = latents_figure(points, interest, legend=True).axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == expected
    colors = [np.asarray(dots.get_facecolor())[0].tolist() for dots in axes.collections[1:]]
    assert colors == [list(to_rgba(color)) for color in COLORS[: len(expected)]]
    assert latents_figure(points, interest).axes[0].get_legend() is None


def test_importances_are_ordered(tmp_path: Path) -> None:
    figure = importance_figure({"small": 0.1, "large": 0.9})
    (axes,) = figure.axes
    assert [bar.get_width() for bar in bars_of(axes)] == [0.1, 0.9]
    text = drawn(figure, tmp_path / "importance")
    assert all(words in text for words in ("small", "large", "10%", "90%"))


def test_drawing_needs_no_window_and_no_global_state(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, aqcl.figures as f;"
        "f.save(f.importance_figure({'a': 1.0}), pathlib.Path(sys.argv[1]) / 'a');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
