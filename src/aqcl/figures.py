"""Figures as SVG and PNG, drawn without a window and without global state."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from aqcl.storage import atomic_write

COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by colour-blind readers too; Okabe and Ito."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P")
"""A second sign of each curve, for prints without colour."""
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
}
_PNG_DPI = 150


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
        shares.set_ylabel("share of training users", color=GRAY)
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


def best_so_far_figure(curves: Mapping[str, Sequence[float | None]], objective: str) -> Figure:
    """The best value found after each trial, a line for each method."""
    figure, axes = new_figure(6.4, 3.6)
    with matplotlib.rc_context(STYLE):
        for number, (name, curve) in enumerate(curves.items()):
            known = [(trial, value) for trial, value in enumerate(curve) if value is not None]
            trials, values = zip(*known, strict=True) if known else ((), ())
            axes.plot(
                trials,
                values,
                label=name,
                color=COLORS[number % len(COLORS)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                drawstyle="steps-post",
            )
        axes.set_xlabel("trial")
        axes.set_ylabel(f"best {objective}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(axis="y", color=PALE, linewidth=0.6)
        if len(curves) > 1:
            # Above, where no curve is.
            columns = min(len(curves), 4)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False)
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


def save(figure: Figure, path: Path) -> None:
    """Write a figure as `path`.svg and `path`.png."""
    svg, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(png, format="png")
        figure.savefig(svg, format="svg", metadata={"Date": None})
    atomic_write(path.with_name(f"{path.name}.svg"), svg.getvalue())
    atomic_write(path.with_name(f"{path.name}.png"), png.getvalue())


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches in the style of the package, and its axes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=_PNG_DPI, layout="constrained")
        return figure, figure.add_subplot()
