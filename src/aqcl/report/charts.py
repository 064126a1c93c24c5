"""Figures of a report of runs."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy

from aqcl.comparison import lacking
from aqcl.evaluate import ActivityPoint, count_rows
from aqcl.figures import GRAY, PALE, STYLE, curve_style, new_figure
from aqcl.legends import legend_above
from aqcl.metrics import equal_mass_cuts
from aqcl.predictions import Predictions

Curves = Mapping[str, Sequence[tuple[int, float]]]
NAME_SIZE, NAME_LINE = 8, 11
"""Points of the text of a name at the end of a line, and of the height that it needs."""
AXES_SHARE = 0.75
"""Of the height of a figure, what its axes have at least beside ticks and label."""
MARKED = 10
"""Most points of a training curve that have a marker: more would hide the curve."""
MOST_BEYOND = 1
"""How far an axis goes beyond means for the sake of their intervals, in ranges of the means."""
LEAST_RANGE = 0.05
"""Of AUCs, what means that lie closer are taken to range over."""
APART = 0.08
"""Of the width of the axes, between two methods that share a place."""


def by_activity_figure(
    curves: Mapping[str, Sequence[ActivityPoint]], yardsticks: Mapping[str, Sequence[ActivityPoint]]
) -> Figure:
    """AUC against the clicks of the user before the row, a curve for each method.

    Where there is a single place to draw at, methods stand beside each other.

    Args:
        curves: of trained methods, with their intervals: bands, or bars at a single place.
        yardsticks: thin lines, without.
    """
    figure, axes = new_figure(7.2, 4.2)
    with matplotlib.rc_context(STYLE):
        points = next(iter(curves.values()))
        places = np.arange(len(points), dtype=float)
        single = len(points) == 1
        for found in yardsticks.values():
            # A line needs two points.
            ends = ([-0.5, 0.5], np.repeat(_aucs(found), 2)) if single else (places, _aucs(found))
            axes.plot(*ends, color=GRAY, linewidth=0.9, linestyle=":")
        lines: dict[str, Line2D] = {}
        gap = min(APART, 0.8 / len(curves))
        for number, (name, found) in enumerate(curves.items()):
            style, (low, high) = curve_style(number), _intervals(found)
            at = places + gap * (number - (len(curves) - 1) / 2) if single else places
            if single:
                _error_bar(axes, float(at[0]), (low[0], high[0]), style["color"])
            else:
                axes.fill_between(at, low, high, color=style["color"], alpha=0.12, linewidth=0)
            (lines[name],) = axes.plot(at, _aucs(found), **style)
        if single:
            axes.set_xlim(-0.5, 0.5)
        axes.set_ylim(auc_limits(curves, yardsticks))
        last = {name: found[-1].auc for name, found in yardsticks.items()}
        _name_ends(axes, 0.5 if single else len(points) - 1, last)
        axes.set_xticks(places, [_range(point) for point in points])
        axes.set_xlabel("clicks of the user before the row")
        axes.set_ylabel("AUC of the rows")
        axes.grid(axis="y", color=PALE, linewidth=0.6)
        legend_above(axes, lines)
    return figure


def _error_bar(axes: Axes, place: float, ends: Sequence[float], color: str) -> None:
    axes.plot([place, place], ends, color=color, linewidth=1.3, marker="_", markersize=9)


def auc_limits(
    curves: Mapping[str, Sequence[ActivityPoint]], yardsticks: Mapping[str, Sequence[ActivityPoint]]
) -> tuple[float, float]:
    """Ends of an axis that shows all means, and their intervals as far as means stay told apart.

    An interval of two seeds can span most of what an AUC can be: all of it would press the means
    into one line.

    Args:
        curves: of trained methods, whose intervals are shown.
        yardsticks: others, whose intervals are not.
    """
    every = [*curves.values(), *yardsticks.values()]
    means = np.concatenate([_aucs(found) for found in every])
    means = means[np.isfinite(means)]
    if not len(means):
        return 0.0, 1.0
    lowest, highest = float(means.min()), float(means.max())
    beyond = MOST_BEYOND * max(highest - lowest, LEAST_RANGE)
    least, most = _reached(curves) or (lowest, highest)
    low, high = max(min(lowest, least), lowest - beyond), min(max(highest, most), highest + beyond)
    margin = 0.05 * max(high - low, LEAST_RANGE)
    return low - margin, high + margin


def cut_sentence(
    curves: Mapping[str, Sequence[ActivityPoint]], yardsticks: Mapping[str, Sequence[ActivityPoint]]
) -> str:
    """What `auc_limits` leaves out of the intervals; nothing if they are whole."""
    reached = _reached(curves)
    low, high = auc_limits(curves, yardsticks)
    if reached is None or (low <= reached[0] and reached[1] <= high):
        return ""
    return (
        f"Intervals are cut where they leave the picture, lest the means lie on each other: they "
        f"reach from {reached[0]:.2f} to {reached[1]:.2f}."
    )


def _reached(curves: Mapping[str, Sequence[ActivityPoint]]) -> tuple[float, float] | None:
    """The least and the greatest end of all intervals, if there are any."""
    ends = np.concatenate([end for found in curves.values() for end in _intervals(found)])
    ends = ends[np.isfinite(ends)]
    return (float(ends.min()), float(ends.max())) if len(ends) else None


def _name_ends(axes: Axes, x: float, ends: Mapping[str, float | None]) -> None:
    """A name to the right of the end of each line; where they lie too close, a stroke leads to it.

    Args:
        axes: with all their lines, whose limits are then kept.
        x: where all lines end.
        ends: where the line of each name ends; without one, it has no name.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    known = sorted((end, name) for name, end in ends.items() if end is not None)
    height = AXES_SHARE * figure.get_figheight() * 72
    places = spread([end for end, _ in known], NAME_LINE * (high - low) / height)
    beside = offset_copy(axes.transData, figure, x=12, y=0, units="points")
    for (end, name), y in zip(known, places, strict=True):
        axes.annotate(
            name, (x, end), (x, y), textcoords=beside, color=GRAY, fontsize=NAME_SIZE, va="center",
            arrowprops={"arrowstyle": "-", "color": GRAY, "linewidth": 0.5, "shrinkA": 1,
                        "shrinkB": 1, "relpos": (0, 0.5)},
        )  # fmt: skip


def spread(places: Sequence[float], gap: float) -> list[float]:
    """The places, moved as little as leaves `gap` between neighbours; least squares.

    Args:
        places: ascending.
        gap: 0 or more.
    """
    # Without the gaps, those that come too close are pooled until none overtakes the next.
    pools: list[list[float]] = []
    for k, place in enumerate(places):
        pools.append([place - k * gap])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    moved = [fmean(pool) for pool in pools for _ in pool]
    return [place + k * gap for k, place in enumerate(moved)]


def curves_figure(curves: Mapping[str, Curves], x: str, y: str) -> Figure:
    """Curves of runs, those of one method in one style.

    Args:
        curves: by method, and by seed, points (x, y).
        x: label of the axis.
        y: label of the axis.
    """
    figure, axes = new_figure(7.2, 3.8)
    with matplotlib.rc_context(STYLE):
        lines: dict[str, Line2D] = {}
        for number, (name, runs) in enumerate(curves.items()):
            style = curve_style(number)
            for points in runs.values():
                xs, ys = zip(*points, strict=True) if points else ((), ())
                every = max(1, -(-len(points) // MARKED))
                (lines[name],) = axes.plot(
                    xs, ys, linewidth=1.3, alpha=0.85, markevery=every, **style
                )
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y", color=PALE, linewidth=0.6)
        legend_above(axes, lines)
    return figure


def calibration_figure(predictions: Mapping[str, Sequence[Predictions]], bins: int = 10) -> Figure:
    """Observed against predicted share of clicks, in bins of equally many rows.

    Args:
        predictions: of each seed of each method.
        bins: how many points a method has.
    """
    figure, axes = new_figure(4.8, 4.4)
    with matplotlib.rc_context(STYLE):
        ends = [1.0, 0.0]
        lines: dict[str, Line2D] = {}
        for number, (name, found) in enumerate(predictions.items()):
            expected, observed = reliability(found, bins)
            ends = [min(ends[0], *expected, *observed), max(ends[1], *expected, *observed)]
            (lines[name],) = axes.plot(expected, observed, **curve_style(number))
        axes.plot(ends, ends, color=GRAY, linewidth=0.9, linestyle=":", zorder=0)
        axes.set_xlabel("mean prediction")
        axes.set_ylabel("share of clicks")
        legend_above(axes, lines)
    return figure


def reliability(seeds: Sequence[Predictions], bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean prediction and share of clicks of `bins` parts of equally many rows, by score.

    Rows of one score stay in one part, as in the calibration error; parts that this leaves without
    rows are left out. Each seed is divided by its own scores; what is given is the mean over the
    rows that a part has in all seeds.
    """
    sums = np.zeros((3, bins))
    for one in seeds:
        order = np.argsort(one.score, kind="stable")
        score, label = one.score[order].astype(float), one.label[order].astype(float)
        cuts = equal_mass_cuts(score, bins)
        for k, (begin, end) in enumerate(pairwise(cuts)):
            sums[:, k] += score[begin:end].sum(), label[begin:end].sum(), end - begin
    expected, observed, rows = sums[:, sums[2] > 0]
    return expected / rows, observed / rows


def activity_edges(predictions: Predictions, most: int = 10) -> list[int]:
    """Lowest activities of bins each of which has as much as a verdict needs, if there is so much.

    Args:
        predictions: rows of a split.
        most: how many bins there are at most; their clicks are about equally many.
    """
    activity = np.sort(predictions.activity[predictions.label == 1])
    edges = [int(predictions.activity.min())]
    for k in range(1, most if len(activity) else 1):
        edge = int(activity[k * len(activity) // most])
        above = predictions.activity >= edge
        below = (predictions.activity >= edges[-1]) & ~above
        if _is_enough(predictions, below) and _is_enough(predictions, above):
            edges.append(edge)
    return edges


def _is_enough(predictions: Predictions, mask: np.ndarray) -> bool:
    (counts,) = count_rows(predictions, [mask])
    return not lacking(**counts)


def _aucs(points: Sequence[ActivityPoint]) -> np.ndarray:
    return np.array([p.auc for p in points], dtype=float)


def _intervals(points: Sequence[ActivityPoint]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends; NaN where there is none."""
    low, high = ([getattr(p, end) for p in points] for end in ("auc_low", "auc_high"))
    return np.array(low, dtype=float), np.array(high, dtype=float)


def _range(point: ActivityPoint) -> str:
    if point.highest is None:
        return f"{point.lowest}+"
    same = point.lowest == point.highest
    return str(point.lowest) if same else f"{point.lowest}-{point.highest}"
