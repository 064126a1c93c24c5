"""Figures as SVG, PNG and PDF, drawn without a window and without global state."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from aqcl.legends import legend_above
from aqcl.storage import atomic_write

COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by colour-blind readers too; Okabe and Ito."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P")
"""A second sign of each curve, for prints without colour."""
LINES: Final = ("-", "--", "-.")
"""A third sign, from the seventh curve on; dotted lines are for what is no curve of a method."""
GRAY: Final = "#6E6E6E"
PALE: Final = "#D5D5D5"
STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "svg.hashsalt": "aqcl",  # the same figure is the same file
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a name with a dollar sign is no formula
}
FORMATS: Final[Mapping[str, dict[str, None]]] = {
    "svg": {"Date": None},
    "png": {},
    "pdf": {"CreationDate": None},
}
"""Endings of the files of a figure, and which metadata each leaves out: when it was drawn."""
_PNG_DPI = 150


def curve_style(number: int) -> dict[str, Any]:
    """Colour, marker and line of a curve, as `Axes.plot` takes them.

    Args:
        number: of the curve in its figure, from 0. The first 36 all differ without their line too.
    """
    turn = number // len(COLORS)
    return {
        "color": COLORS[number % len(COLORS)],
        "marker": MARKERS[(number + turn) % len(MARKERS)],
        "markersize": 4,
        "linestyle": LINES[turn % len(LINES)],
    }


def alpha_figure(
    activity: Float[np.ndarray, " N"],
    alpha: Float[np.ndarray, " N"],
    users: Int[np.ndarray, " U"],
    mean_activity: float,
) -> Figure:
    """Alpha over the activity, before the histogram of the training users' activity.

    Args:
        activity: clicks, ascending.
        alpha: at each of them.
        users: training clicks of each user.
        mean_activity: mean of the above.

    Reference: arXiv 2109.13921, figures 4 and 5.
    """
    figure, axes = new_figure(6.4, 3.6)
    with matplotlib.rc_context(STYLE):
        shares = axes.twinx()
        # The curve stands before the bars.
        axes.set_zorder(shares.get_zorder() + 1)
        axes.patch.set_visible(False)
        end = float(activity[-1])
        width = max(round(end / 30), 1)
        edges = np.arange(-0.5, end + width, width)
        counts, _ = np.histogram(users, edges)
        beyond = float(np.mean(users > edges[-1]))
        centres, heights = (edges[:-1] + edges[1:]) / 2, counts / max(len(users), 1)
        shares.bar(centres, heights, width * 0.9, color=PALE)
        shares.set_ylabel("share of users with a training click", color=GRAY)
        shares.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        shares.tick_params(axis="y", colors=GRAY)
        shares.spines["right"].set_visible(True)
        axes.plot(activity, alpha, color=COLORS[0], linewidth=2.2)
        axes.axvline(mean_activity, color=COLORS[1], linewidth=1.2, linestyle="--")
        axes.annotate(
            f"mean: {mean_activity:.1f} clicks",
            (mean_activity, 1.02),
            xytext=(4, 0),
            textcoords="offset points",
            color=COLORS[1],
        )
        axes.set_xlim(-0.5, end)
        axes.set_ylim(0, 1.1)
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_ylabel("alpha: weight of the clusters", color=COLORS[0])
        axes.tick_params(axis="y", colors=COLORS[0])
        more = f" ({beyond:.1%} of the users have more)" if beyond > 0 else ""
        axes.set_xlabel(f"activity: clicks of the user{more}")
    return figure


def best_so_far_figure(
    curves: Mapping[str, Sequence[float | None]], objective: str, unit: str = "trial"
) -> Figure:
    """The best value found after each trial, or other unit, a line for each method.

    The axis has a place for those too before which nothing was found.
    """
    figure, axes = new_figure(6.4, 3.6)
    with matplotlib.rc_context(STYLE):
        lines: dict[str, Line2D] = {}
        for number, (name, curve) in enumerate(curves.items()):
            known = [(trial, value) for trial, value in enumerate(curve) if value is not None]
            trials, values = zip(*known, strict=True) if known else ((), ())
            (lines[name],) = axes.plot(
                trials, values, drawstyle="steps-post", **curve_style(number)
            )
        last = max(map(len, curves.values()), default=0) - 1
        if last > 0:
            axes.set_xlim(-0.04 * last, 1.04 * last)
        axes.set_xlabel(unit)
        axes.set_ylabel(f"best {objective}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(axis="y", color=PALE, linewidth=0.6)
        if len(curves) > 1:
            legend_above(axes, lines)
    return figure


def trajectory_figure(
    steps: Sequence[int], values: Mapping[str, Sequence[float]], kept: int, *, log: bool
) -> Figure:
    """How the values of alpha moved during a training.

    Args:
        steps: at which they were logged, ascending.
        values: a line for each, by its name.
        kept: the step whose weights, and whose alpha, were kept.
        log: whether magnitudes are shown; else values from 0 to 1.
    """
    figure, axes = new_figure(6.4, 3.6)
    with matplotlib.rc_context(STYLE):
        lines: dict[str, Line2D] = {}
        for number, (name, line) in enumerate(values.items()):
            (lines[name],) = axes.plot(steps, line, **curve_style(number))
        axes.axvline(kept, color=GRAY, linewidth=1, linestyle="--")
        axes.annotate(
            "kept", (kept, 0.94), (-4, 0), ("data", "axes fraction"), "offset points",
            color=GRAY, ha="right",
        )  # fmt: skip
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:.3g}")
            axes.yaxis.set_minor_formatter("{x:.3g}")
        else:
            axes.set_ylim(0, 1.02)
        axes.set_xlabel("step")
        axes.set_ylabel("w1, w2" if log else "alpha")
        axes.grid(axis="y", color=PALE, linewidth=0.6)
        legend_above(axes, lines, size=8)
    return figure


def rungs_figure(candidates: Mapping[str, Sequence[tuple[int, float]]], winner: str) -> Figure:
    """What each candidate reached in each rung of successive halving, the winner in colour.

    Args:
        candidates: step and lowest validation logloss at the end of each of its rungs, by name.
        winner: one of the names.
    """
    figure, axes = new_figure(6.4, 3.6)
    with matplotlib.rc_context(STYLE):
        for name, rungs in candidates.items():
            steps, values = zip(*rungs, strict=True)
            color, front = (COLORS[0], 3) if name == winner else (GRAY, 2)
            axes.plot(steps, values, color=color, marker="o", markersize=4, zorder=front)
        step, value = candidates[winner][-1]
        axes.annotate(
            winner, (step, value), xytext=(0, -6), textcoords="offset points",
            color=COLORS[0], ha="right", va="top",
        )  # fmt: skip
        axes.margins(y=0.15)
        axes.set_xlabel("step of the candidate, its common start included")
        axes.set_ylabel("lowest validation logloss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(axis="y", color=PALE, linewidth=0.6)
    return figure


def importance_figure(importance: Mapping[str, float]) -> Figure:
    """Bars of the importance of each parameter, the most important on top."""
    ordered = sorted(importance.items(), key=lambda item: item[1])
    figure, axes = new_figure(6.4, 1.1 + 0.35 * len(ordered))
    with matplotlib.rc_context(STYLE):
        bars = axes.barh(
            [key for key, _ in ordered], [share for _, share in ordered], color=COLORS[0]
        )
        axes.bar_label(bars, [f"{share:.0%}" for _, share in ordered], padding=3)
        axes.set_xlim(0, max(1.15 * max((share for _, share in ordered), default=1.0), 1e-9))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("importance for the objective, of all searched settings")
        axes.tick_params(axis="y", length=0)
    return figure


def latents_figure(
    points: Mapping[str, Float[np.ndarray, "N 2"]],
    interest: Int[np.ndarray, " N"],
    *,
    legend: bool = False,
) -> Figure:
    """Latents in the plane, a panel for each title, coloured by interest.

    The largest interests have a colour, the others are grey.

    Args:
        points: the latents, in the same order in each panel.
        interest: the number of each one's interest.
        legend: whether each panel tells the number of each colour.

    Reference: arXiv 2109.13921, figure 6.
    """
    sizes = np.bincount(interest)
    largest = np.argsort(-sizes, kind="stable")[: min(len(COLORS), np.count_nonzero(sizes))]
    with matplotlib.rc_context(STYLE):
        size = (4.6 * len(points), 4.6)
        figure = Figure(figsize=size, dpi=_PNG_DPI, layout="constrained")
        panels = figure.subplots(1, len(points), squeeze=False)[0]
        for axes, (title, plane) in zip(panels, points.items(), strict=True):
            x, y = plane.T
            # As one picture within the vectors: thousands of points would make a large file.
            axes.scatter(x, y, s=3, color=PALE, linewidths=0, rasterized=True)
            for color, number in zip(COLORS, largest, strict=False):
                of = interest == number
                axes.scatter(
                    x[of], y[of], s=7, color=color, linewidths=0, rasterized=True, label=str(number)
                )
            axes.set_title(title, loc="left")
            if legend:
                axes.legend(
                    title="interest", loc="lower left", bbox_to_anchor=(0, 1), ncols=len(COLORS),
                    frameon=False, markerscale=2, handlelength=1, handletextpad=0.2,
                    columnspacing=1, borderpad=0, alignment="left",
                )  # fmt: skip
            axes.set_xticks([])
            axes.set_yticks([])
    return figure


def save(figure: Figure, path: Path, formats: Iterable[str] = FORMATS) -> list[Path]:
    """Write a figure as `path`.svg, `path`.png and `path`.pdf, or some of them; the files."""
    files = []
    for ending in formats:
        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            figure.savefig(buffer, format=ending, metadata=FORMATS[ending])
        files.append(path.with_name(f"{path.name}.{ending}"))
        atomic_write(files[-1], buffer.getvalue())
    return files


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches in the style of the package, and its axes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=_PNG_DPI, layout="constrained")
        return figure, figure.add_subplot()
