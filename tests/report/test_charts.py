"""Figures of a report of runs: curves are told apart, with colour and without."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text

from aqcl.evaluate import ActivityPoint
from aqcl.metrics import expected_calibration_error
from aqcl.predictions import Predictions
from aqcl.report.charts import (
    MARKED,
    activity_edges,
    auc_limits,
    by_activity_figure,
    calibration_figure,
    curves_figure,
    cut_sentence,
    reliability,
    spread,
)

NAMES = ["$x_$", "_base", "cost $5 vs $6", *(f"method {k}" for k in range(4))]


def activity_axes() -> Axes:
    points = [ActivityPoint(k, None, 9, 3, 3, 0.6, 0.5, 0.7) for k in range(2)]
    return by_activity_figure(dict.fromkeys(NAMES, points), {}).axes[0]


def training_axes() -> Axes:
    runs = {str(seed): [(k, k / 3) for k in range(3)] for seed in range(2)}
    return curves_figure(dict.fromkeys(NAMES, runs), "rows", "AUC").axes[0]


def predictions() -> Predictions:
    rows = np.arange(20)
    return Predictions(rows, rows, rows % 2, rows, rows / 20)


def calibration_axes() -> Axes:
    return calibration_figure({name: [predictions()] for name in NAMES}).axes[0]


@pytest.mark.parametrize("draw", [activity_axes, training_axes, calibration_axes])
def test_no_two_methods_have_the_same_entry_in_a_legend(draw: Callable[[], Axes]) -> None:
    legend = draw().get_legend()
    assert legend is not None
    # What begins with an underscore has a space without width before it.
    assert [entry.get_text().strip("\u200b") for entry in legend.get_texts()] == NAMES
    assert not any(entry.get_parse_math() for entry in legend.get_texts())
    handles = [handle for handle in legend.legend_handles if isinstance(handle, Line2D)]
    assert len({(h.get_color(), h.get_marker()) for h in handles}) == len(NAMES)
    assert len({h.get_marker() for h in handles[:6]}) == 6


def test_seeds_of_a_method_look_alike_and_long_curves_have_few_markers() -> None:
    runs = {seed: [(k, k / 100) for k in range(100)] for seed in ("one", "other")}
    first, second = curves_figure({"method": runs, "none": {"one": []}}, "x", "y").axes[0].lines[:2]
    assert (first.get_color(), first.get_marker()) == (second.get_color(), second.get_marker())
    assert first.get_marker() == "o"
    every = first.get_markevery()
    assert isinstance(every, int)
    assert 100 / every <= MARKED


def of_scores(score: list[float], label: list[int]) -> Predictions:
    rows = np.arange(len(score))
    return Predictions(rows, rows, np.array(label), rows, np.array(score))


def test_reliability_is_exact_for_known_shares() -> None:
    score, label = [0.2] * 50 + [0.6] * 50, [1] * 10 + [0] * 40 + [1] * 30 + [0] * 20
    known = of_scores(score, label)
    expected, observed = reliability([known], 2)
    assert expected == pytest.approx([0.2, 0.6])
    assert observed == pytest.approx([0.2, 0.6])
    # Another seed says 0.1 more of every row, in another order.
    bolder = of_scores([value + 0.1 for value in reversed(score)], label[::-1])
    expected, observed = reliability([known, bolder], 2)
    assert expected == pytest.approx([0.25, 0.65])
    assert observed == pytest.approx([0.2, 0.6])


def test_rows_of_one_score_are_one_point_of_calibration_in_whatever_order() -> None:
    for label in ([1] * 50 + [0] * 50, [0, 1] * 50):
        expected, observed = reliability([of_scores([0.5] * 100, label)], 10)
        assert expected == pytest.approx([0.5])
        assert observed == pytest.approx([0.5])


def test_points_of_calibration_are_means_over_the_seeds_that_have_them() -> None:
    """One seed has ties where the other has none: two rows of 0.2 fill the first of two parts."""
    constant = of_scores([0.5] * 4, [1, 1, 0, 0])
    rising = of_scores([0.2, 0.2, 0.6, 0.8], [0, 1, 1, 1])
    expected, observed = reliability([constant, rising], 2)
    # The four tied rows lie in one of the parts, beside two rows of the other seed.
    assert sorted(expected) == pytest.approx([0.2, (4 * 0.5 + 0.6 + 0.8) / 6])
    assert sorted(observed) == pytest.approx([0.5, (2 + 1 + 1) / 6])


def test_points_of_calibration_are_as_far_from_the_line_as_the_calibration_error() -> None:
    draw = np.random.default_rng(0)
    score, label = draw.integers(1, 8, 200) / 10, draw.integers(0, 2, 200)
    expected, observed = reliability([of_scores(list(score), list(label))], 7)
    _, rows = np.unique(score, return_counts=True)
    assert len(expected) == len(rows)
    error = expected_calibration_error(label, score, 7)
    assert float(np.abs(expected - observed) @ rows / 200) == pytest.approx(error)


def test_names_at_the_end_of_lines_do_not_lie_on_each_other() -> None:
    def curve(auc: float) -> list[ActivityPoint]:
        return [ActivityPoint(k, None, 9, 3, 3, auc, auc, auc) for k in range(3)]

    ends = {"a": 0.6, "b": 0.6001, "c": 0.6001, "d": 0.5999, "far": 0.7}
    yardsticks = {name: curve(auc) for name, auc in ends.items()}
    drawn = by_activity_figure({"DIN": curve(0.5)}, yardsticks)
    drawn.draw_without_rendering()
    # Of the texts alone, without the strokes that lead to them.
    boxes = {text.get_text(): Text.get_window_extent(text) for text in drawn.axes[0].texts}
    assert boxes.keys() == ends.keys()
    heights = sorted((box.y0, box.y1) for box in boxes.values())
    assert all(below[1] <= above[0] for below, above in pairwise(heights))
    assert sorted(boxes, key=lambda name: boxes[name].y0)[0] == "d"
    assert sorted(boxes, key=lambda name: boxes[name].y0)[-1] == "far"


def point(lowest: int, auc: float | None, low: float | None, high: float | None) -> ActivityPoint:
    return ActivityPoint(lowest, None, 9, 3, 3, auc, low, high)


def test_methods_at_a_single_place_stand_apart_with_bars_for_their_intervals() -> None:
    curves = {"DIN": [point(0, 0.6, 0.55, 0.65)], "AQCL": [point(0, 0.61, 0.56, 0.66)]}
    axes = by_activity_figure(curves, {"popularity": [point(0, 0.58, None, None)]}).axes[0]
    yardstick, *drawn = axes.lines
    assert np.ptp(np.asarray(yardstick.get_xdata())) == 1  # a line, of which one point shows none
    bars, marks = drawn[::2], drawn[1::2]
    ends = [np.asarray(bar.get_ydata()).tolist() for bar in bars]
    assert ends == [[0.55, 0.65], [0.56, 0.66]]
    assert [bar.get_color() for bar in bars] == [mark.get_color() for mark in marks]
    places = [float(np.asarray(line.get_xdata())[0]) for line in (*bars, *marks)]
    assert places[:2] == places[2:]
    assert places[1] - places[0] > 0.05
    low, high = axes.get_ylim()
    assert low < 0.55
    assert high > 0.66


def test_intervals_do_not_press_the_means_into_one_line() -> None:
    wide = {
        "DIN": [point(0, 0.60, 0.2, 1.0), point(5, 0.62, 0.3, 0.9)],
        "AQCL": [point(0, 0.61, 0.59, 0.63), point(5, 0.64, None, None)],
    }
    yardsticks = {"popularity": [point(0, 0.58, 0.0, 1.0), point(5, None, None, None)]}
    low, high = auc_limits(wide, yardsticks)
    assert low < 0.58 - 0.05 < 0.64 + 0.05 < high
    assert high - low < 4 * (0.64 - 0.58)
    assert "they reach from 0.20 to 1.00" in cut_sentence(wide, yardsticks)
    assert by_activity_figure(wide, yardsticks).axes[0].get_ylim() == pytest.approx((low, high))


def test_intervals_that_leave_room_for_the_means_are_whole() -> None:
    narrow = {"DIN": [point(0, 0.60, 0.59, 0.61), point(5, 0.65, 0.63, 0.66)]}
    low, high = auc_limits(narrow, {})
    assert low < 0.59
    assert high > 0.66
    assert high - low < 0.08
    assert cut_sentence(narrow, {}) == ""
    same = {"DIN": [point(0, 0.6, 0.6, 0.6)]}
    low, high = auc_limits(same, {})
    assert low < 0.6 < high
    assert auc_limits({"DIN": [point(0, None, None, None)]}, {}) == (0, 1)


def clicks_of(users: int, per_user: int, label: int = 1) -> Predictions:
    """A click and a row without one after each of so many clicks of each user."""
    activity = np.tile(np.repeat(np.arange(per_user), 2), users)
    user = np.repeat(np.arange(users), 2 * per_user)
    found = np.tile([label, 0], users * per_user)
    return Predictions(user, user, found, activity, np.zeros(len(user)))


def test_bins_of_activity_have_as_much_as_a_verdict_needs_and_no_more() -> None:
    assert activity_edges(clicks_of(users=100, per_user=4)) == [0, 1, 2, 3]
    assert activity_edges(clicks_of(users=100, per_user=4), most=2) == [0, 2]
    # 99 users are too few for a verdict, however many clicks they have.
    assert activity_edges(clicks_of(users=99, per_user=4)) == [0]
    assert activity_edges(clicks_of(users=100, per_user=4, label=0)) == [0]
    few = clicks_of(users=200, per_user=2)
    few.label[(few.activity == 1) & (few.user >= 49)] = 0
    assert activity_edges(few) == [0]  # 49 clicks above
    few.label[np.flatnonzero(few.activity == 1)[98]] = 1
    assert activity_edges(few) == [0, 1]


def test_places_are_moved_only_as_far_as_they_lie_too_close() -> None:
    assert spread([0.0, 5.0, 9.0], 2.0) == [0, 5, 9]
    assert spread([1.0, 1.0, 1.0], 2.0) == [-1, 1, 3]
    assert spread([0.0, 4.0, 4.0, 9.0], 2.0) == [0, 3, 5, 9]
    assert spread([], 2.0) == []
