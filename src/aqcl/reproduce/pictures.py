"""The figures of the paper, drawn from outcomes."""

from collections.abc import Mapping
from typing import Any, Final

import matplotlib
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from aqcl.activity import curve_alpha
from aqcl.evaluate import ALL
from aqcl.figures import COLORS, GRAY, MARKERS, PALE, STYLE, curve_style, latents_figure, new_figure
from aqcl.legends import legend_above
from aqcl.reproduce.states import finished_cells

FIRST_SEED: Final = 1
"""Of the trainings whose latents figure 6 shows."""
WITH_TRIALS: Final = "figure4"
"""The figure that shows the curves of all trials; another of its kind has the chosen ones alone."""
LEGEND_HEIGHT: Final = 0.45
"""Inches that the legend of figure 6 adds."""
PANEL_PAD: Final = 0.12
"""Inches around each panel: the numbers of two axes must not run together."""


def figures_of(outcome: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures of an outcome by name; those that nothing is known for are left out."""
    made: dict[str, Figure] = {}
    name = outcome["name"]
    for key, found in outcome.get("activity", {}).items():
        made[f"{name}-{key}"] = activity_figure(found, outcome["datasets"][key]["title"])
    if outcome.get("alpha"):
        titles = {key: outcome["datasets"][key]["title"] for key in outcome["alpha"]}
        many = name == WITH_TRIALS
        made[f"{name}-alpha"] = alpha_curves_figure(outcome["alpha"], titles, trials=many)
    for key, found in outcome.get("latents", {}).items():
        if "points" in found:
            made[f"{name}-{key}"] = interests_figure(found)
    for comparison in outcome["comparisons"]:
        if comparison["comparison"] is not None:
            made[comparison_key(comparison, outcome)] = comparison_figure(comparison)
    return made


def comparison_key(comparison: Mapping[str, Any], outcome: Mapping[str, Any]) -> str:
    """The name of a comparison's figure in `figures_of`."""
    return f"{outcome['name']}-{comparison['dataset']}-{comparison['id']}"


def figure_title(name: str, outcome: Mapping[str, Any]) -> str:
    """What a figure of an outcome shows, for those who read of it.

    Args:
        name: its key in `figures_of`.
        outcome: that it is of.
    """
    titles = {key: facts["title"] for key, facts in outcome["datasets"].items()}
    for comparison in outcome["comparisons"]:
        if name == comparison_key(comparison, outcome):
            of = titles[comparison["dataset"]]
            return f"AUC with 95% intervals on {of}: {comparison['title']}"
    title = titles.get(name.removeprefix(f"{outcome['name']}-"))
    return f"{outcome['title']}, {title}" if title else outcome["title"]


def figure_caption(name: str, outcome: Mapping[str, Any]) -> str:
    """How to read a figure of an outcome.

    Args:
        name: its key in `figures_of`.
        outcome: that it is of.
    """
    key = name.removeprefix(f"{outcome['name']}-")
    if key in outcome.get("activity", {}):
        return _activity_caption(outcome["activity"][key], outcome["datasets"][key]["title"])
    if key in outcome.get("latents", {}):
        return _latents_caption(outcome["latents"][key], outcome["datasets"][key]["title"])
    if key == "alpha":
        return _alpha_caption(outcome, trials=outcome["name"] == WITH_TRIALS)
    return (
        f"AUC, mean of {outcome['seeds']} seeds, with 95% intervals over users and seeds. The grey "
        "square and the line are the base. Each panel has a scale of its own. Whether two methods "
        "differ is not told by whether their intervals overlap: see the table, whose differences "
        "are paired."
    )


def _activity_caption(activity: Mapping[str, Any], title: str) -> str:
    low, high = activity["thresholds"]
    return (
        f"Clicks of {sum(activity['users']):,} users of {title} before their first test row, the "
        f"most active first. Shades are the three groups: up to {low:,} clicks non-active, up to "
        f"{high:,} slightly active, and above. From one click on the scale is logarithmic."
    )


def _alpha_caption(outcome: Mapping[str, Any], *, trials: bool) -> str:
    caption = (
        "Alpha of AQCL on DIN over the clicks of a user, in multiples of the mean of training "
        "users. Thick lines with markers: the curve with which AQCL was chosen on validation rows."
    )
    if not trials:
        return caption
    counts = [
        f"{outcome['datasets'][key]['title']} {len(found['trials'])}"
        for key, found in outcome["alpha"].items()
    ]
    return (
        f"{caption} Thin lines of the same colour: the curves of all trials of the search "
        f"({', '.join(counts)}). Some lie on each other, as searches draw some of the same points."
    )


def _latents_caption(found: Mapping[str, Any], title: str) -> str:
    used = len(np.unique(found["interest"]))
    return (
        f"Latents of {found['rows']:,} validation rows of {title} in the plane (t-SNE), seed "
        f"{FIRST_SEED} of each method. Rows nearest to the {min(used, len(COLORS))} largest of "
        f"AQCL's {used} interests here have colours, the same ones in both panels; the others are "
        "grey. Neighbours alike: of a row's nearest others, the share that has the same interest."
    )


def interests_figure(found: Mapping[str, Any]) -> Figure:
    """The latents of DIN and AQCL beside each other, coloured by AQCL's interest of each row.

    Reference: arXiv 2109.13921, figure 6.
    """
    figure = latents_figure(*titled_points(found))
    figure.set_figheight(figure.get_figheight() + LEGEND_HEIGHT)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    with matplotlib.rc_context(STYLE):
        figure.legend(
            handles, labels, title="interest of AQCL", loc="outside lower left", ncols=len(labels),
            frameon=False, markerscale=2, handlelength=1, handletextpad=0.2, alignment="left",
        )  # fmt: skip
    return figure


def titled_points(found: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The latents of figure 6 by a title that says how well AQCL's interests separate them."""
    points = {}
    for name, plane in found["points"].items():
        one = found["separation"][name]["by interests of AQCL"]
        title = f"{name}: neighbours alike {one['purity']:.2f}, by chance {one['chance']:.2f}"
        points[title] = np.array(plane)
    return points, np.array(found["interest"])


def activity_figure(activity: Mapping[str, Any], title: str) -> Figure:
    """Clicks of the users, the most active first, with the three groups.

    Reference: arXiv 2109.13921, figure 2.
    """
    clicks = np.repeat(activity["clicks"], activity["users"])[::-1]
    share = np.arange(1, len(clicks) + 1) / len(clicks)
    figure, axes = new_figure(6.4, 3.4)
    with matplotlib.rc_context(STYLE):
        axes.plot(share, clicks, color=COLORS[0], linewidth=2)
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        low, high = activity["thresholds"]
        edges = [0.0, float((clicks > high).mean()), float((clicks > low).mean()), 1.0]
        names = ("highly active", "slightly active", "non-active")
        for k, name in enumerate(names):
            label = f"{name}: {edges[k + 1] - edges[k]:.0%} of the users"
            axes.axvspan(
                edges[k], edges[k + 1], color=COLORS[k], alpha=0.12, linewidth=0, label=label
            )
        axes.legend(loc="upper right", frameon=False)
        axes.set_xlabel("users, the most active first")
        axes.set_ylabel("clicks before the test rows")
        axes.set_title(title, loc="left")
    return figure


def alpha_curves_figure(
    found: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], *, trials: bool
) -> Figure:
    """The searched curves of alpha, over activity in multiples of the mean.

    Args:
        found: by data set, `w1`, `w2` and `trials`.
        titles: of the data sets.
        trials: whether the curves of all trials stand behind that of the winner.

    Reference: arXiv 2109.13921, figures 4 and 5 (left).
    """
    figure, axes = new_figure(6.4, 3.6)
    ratio = torch.linspace(0, 5, 251)
    with matplotlib.rc_context(STYLE):
        curves: dict[str, Artist] = {}
        for number, (key, curve) in enumerate(found.items()):
            style = curve_style(number)
            for trial in curve["trials"] if trials else ():
                alpha = curve_alpha(ratio, 1.0, trial["w1"], trial["w2"])
                axes.plot(ratio, alpha, color=style["color"], linewidth=0.7, alpha=0.35)
            alpha = curve_alpha(ratio, 1.0, curve["w1"], curve["w2"])
            label = f"{titles[key]}: w1 {curve['w1']:.2g}, w2 {curve['w2']:.2g}"
            (curves[label],) = axes.plot(ratio, alpha, **style, markevery=25, linewidth=2.4)
        if trials:
            curves["thin: all trials"] = Line2D([], [], color=GRAY, linewidth=0.7)
        axes.set_ylim(0, 1.05)
        axes.set_xlim(0, 5)
        axes.set_xlabel("clicks of the user, in multiples of the mean")
        axes.set_ylabel("alpha: weight of the clusters")
        legend_above(axes, curves)
    return figure


def comparison_figure(comparison: Mapping[str, Any]) -> Figure:
    """AUC of each method with its interval, all users and each group in a panel."""
    rows = comparison["comparison"]["rows"]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    labels = finished_cells(comparison)
    with matplotlib.rc_context(STYLE):
        height = 1.3 + 0.3 * len(labels)
        layout = ConstrainedLayoutEngine(w_pad=PANEL_PAD)
        figure = Figure(figsize=(9.6, height), dpi=150, layout=layout)
        panels = figure.subplots(1, len(groups), sharey=True)
        for axes, group in zip(np.atleast_1d(panels), groups, strict=True):
            found = {row["configuration"]: row for row in rows if row["group"] == group}
            _intervals(axes, labels, found, comparison["base"])
            axes.set_title("all users" if group == ALL else group, loc="left")
            axes.set_xlabel("AUC")
    return figure


def _intervals(
    axes: Axes, labels: list[str], found: Mapping[str, Mapping[str, Any]], base: str
) -> None:
    for place, label in enumerate(labels):
        row = found[label]
        if row["auc"] is None:
            continue
        color = GRAY if label == base else COLORS[0]
        if row["auc_low"] is not None:
            axes.plot([row["auc_low"], row["auc_high"]], [place, place], color=color, linewidth=2)
        marker = MARKERS[1] if label == base else MARKERS[0]
        axes.plot([row["auc"]], [place], marker=marker, color=color, linestyle="none")
    if base in found and found[base]["auc"] is not None:
        axes.axvline(found[base]["auc"], color=PALE, linewidth=1, zorder=0)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=(1, 2, 2.5, 5, 10)))
    axes.tick_params(axis="x", labelsize="small")
