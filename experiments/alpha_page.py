"""The block and the figure of docs/alpha.md for one outcome of experiments/alpha.py."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aqcl.comparison import finding, restated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALL, COLD = "all", "non-active"
APART = 0.04
"""Least difference of two costs in the figure, as a share."""


def block(results: Mapping[str, Any], figure: str) -> str:
    """Constants against the curve, then what each search cost and reached.

    Args:
        results: an outcome.
        figure: path of its figure, as the page links it.
    """
    spec = results["specification"]
    base, seeds = spec["base"], len(spec["final_seeds"])
    lines = [
        f"`{results['command']}`: test AUC, mean of {seeds} seed{'s' if seeds > 1 else ''}; "
        f"difference with `{base}` and its paired 95% interval."
        f"{restated(results['comparisons']['test'])}",
        "",
        f"![{described(results)}]({figure})",
        "",
        "| alpha | without clicks | at the mean | mean over training rows | AUC | difference "
        "| verdict | AUC, non-active users | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms(results):
        row, cold = row_of(results, arm, ALL), row_of(results, arm, COLD)
        at = alpha_at(results, arm)
        lines.append(
            f"| {label(results, arm)} | {at['0']:.3f} | {at['mean']:.3f} "
            f"| {results['train_alpha'][arm]:.3f} | {with_sd(row)} | {difference(row)} "
            f"| {finding(row['verdict'], row.get('holm'))} | {with_sd(cold)} | {difference(cold)} |"
        )
    lines += [
        "",
        f"One training is {one_training(results):,.0f} rows, the mean of those of `{base}` with "
        "fresh seeds. Seconds are of one process with one thread. The logloss of a halving is of a "
        "candidate that was trained briefly.",
        "",
        "| search | rows | trainings | seconds | found | validation logloss of the search "
        "| trained afresh |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in results["searches"].items():
        lines.append(
            f"| {name} | {found['rows']:,} | {trainings(results, name):.2f} "
            f"| {found['seconds']:,.0f} | {values(found)} | {found['best']['value']:.5f} "
            f"| {logloss(results, name)} |"
        )
    given = spec["given"]
    unsearched = f"not searched: {label(results, given)}"
    lines.append(f"| {unsearched} | 0 | 0 | 0 |  |  | {logloss(results, given)} |")
    lines += forms_lines(results)
    notes = [f"{name}: {n}." for name, f in results["searches"].items() for n in f["notes"]]
    if results["not_run"]:
        notes.insert(0, f"Not run with fresh seeds: {', '.join(results['not_run'])}.")
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def forms_lines(results: Mapping[str, Any]) -> list[str]:
    """Other forms of alpha against the curve, all learned in one run; none if there are none."""
    compared = results["comparisons"].get("forms")
    others = [r for r in compared["rows"] if r["verdict"] != "base"] if compared else []
    if not others:
        return []
    return [
        "",
        f"Forms of alpha against the curve (`{compared['base']}`), each learned in one run:",
        "",
        "| form | users | AUC | difference | verdict |",
        "|---|---|---|---|---|",
        *(
            f"| {row['configuration']} | {row['group']} | {with_sd(row)} | {difference(row)} "
            f"| {finding(row['verdict'], row.get('holm'))} |"
            for row in others
            if row["group"] in (ALL, COLD)
        ),
    ]


def arms(results: Mapping[str, Any]) -> list[str]:
    """All that was trained on fresh seeds, in the order of the outcome."""
    return list(results["winners"])


def label(results: Mapping[str, Any], arm: str) -> str:
    """An arm as tables name it; the given curve, if it was trained, says which it is."""
    from aqcl.experiment import resolve

    if arm != results["specification"]["given"] or arm not in results["winners"]:
        return arm
    options = resolve(results["winners"][arm]).regularizer["aqcl"]
    return f"{arm} (w1 {options['w1']:g}, w2 {options['w2']:g})"


def row_of(results: Mapping[str, Any], arm: str, group: str) -> dict[str, Any]:
    """A row of the comparison on test."""
    rows = results["comparisons"]["test"]["rows"]
    row: dict[str, Any] = next(
        row for row in rows if row["configuration"] == arm and row["group"] == group
    )
    return row


def with_sd(row: Mapping[str, Any]) -> str:
    """Mean AUC, and its standard deviation over the seeds if there are several."""
    return f"{row['auc']:.4f}" + (f" ± {row['auc_sd']:.4f}" if row["auc_sd"] is not None else "")


def difference(row: Mapping[str, Any]) -> str:
    """Difference of AUC with the base, with its interval."""
    if row["verdict"] == "base":
        return "-"
    interval = f"[{row['difference_low']:+.4f}, {row['difference_high']:+.4f}]"
    return f"{row['difference']:+.4f} {interval}"


def alpha_at(results: Mapping[str, Any], arm: str) -> dict[str, float]:
    """Alpha of an arm without clicks and at the mean."""
    from aqcl.experiment import resolve
    from aqcl.search.summary import alpha_values

    # Every shape has its grid in multiples of the mean.
    (found,) = alpha_values(resolve(results["winners"][arm]), 1.0).values()
    return found


def one_training(results: Mapping[str, Any]) -> float:
    """Rows of one training: the mean of those with the base's alpha."""
    base = results["specification"]["base"]
    rows = [run["rows"] for run in results["runs"] if run["method"] == base]
    return float(sum(rows) / len(rows))


def trainings(results: Mapping[str, Any], search: str) -> float:
    """Rows of a search in trainings."""
    return float(results["searches"][search]["rows"] / one_training(results))


def values(found: Mapping[str, Any]) -> str:
    """What a search has found."""
    parts = []
    for key, value in found["best"]["parameters"].items():
        numbers = value if isinstance(value, list) else [value]
        name = key.rpartition(".")[2].removesuffix("_values")
        parts.append(f"{name} {', '.join(f'{number:.3g}' for number in numbers)}")
    return "; ".join(parts)


def logloss(results: Mapping[str, Any], arm: str) -> str:
    """Validation logloss of the fresh trainings: mean and standard deviation, if they are there."""
    import numpy as np

    found = [run["valid"]["logloss"] for run in results["runs"] if run["method"] == arm]
    if not found:
        return "not run"
    spread = f" ± {np.std(found, ddof=1):.5f}" if len(found) > 1 else ""
    return f"{np.mean(found):.5f}{spread}"


def picture(results: Mapping[str, Any]) -> "Figure":
    """AUC of the constants against the searched curve, and of each search over its rows.

    Reference: arXiv 2109.13921, figure 5, right.
    """
    import matplotlib
    from matplotlib.figure import Figure

    from aqcl.figures import STYLE

    with matplotlib.rc_context(STYLE):
        constants = constants_of(results)
        figure = Figure(figsize=(9.6 if constants else 6.4, 4.0), dpi=150, layout="constrained")
        panels = [*figure.subplots(1, 2 if constants else 1, sharey=True, squeeze=False).flat]
        base = row_of(results, results["specification"]["base"], ALL)
        if constants:
            draw_constants(panels[0], results)
        draw_searches(panels[-1], results)
        panels[0].set_ylabel("test AUC; bars: paired 95% interval\nof the difference with the line")
        panels[0].ticklabel_format(axis="y", useOffset=False)
        for axes in panels:
            axes.axhline(base["auc"], color="#6E6E6E", linewidth=1, linestyle="--", zorder=1)
            axes.grid(axis="y", color="#D5D5D5", linewidth=0.6)
            axes.margins(y=0.12)
    return figure


def described(results: Mapping[str, Any]) -> str:
    """The figure in words: what `picture` draws."""
    constants = [(f"alpha {value:g}", "") for value in constants_of(results)]
    searches = [(name, f" at {trainings(results, name):.2f}") for name in trained(results)]
    left, right = (
        "; ".join(f"{arm} {row_of(results, arm, ALL)['auc']:.4f}{cost}" for arm, cost in drawn)
        for drawn in (constants, searches)
    )
    panels = [f"Test AUC of constants beside the searched curve: {left}."] if constants else []
    panels.append(f"Test AUC of each search over its cost in trainings: {right}.")
    return " ".join(panels)


def constants_of(results: Mapping[str, Any]) -> list[float]:
    """The constants that have been trained."""
    constants = results["specification"]["constants"]
    return [value for value in constants if f"alpha {value:g}" in results["winners"]]


def trained(results: Mapping[str, Any]) -> list[str]:
    """The searches whose alpha has been trained afresh."""
    return [name for name in results["searches"] if name in results["winners"]]


def draw_constants(axes: "Axes", results: Mapping[str, Any]) -> None:
    """Left: a point for each constant, and the curve as a line."""
    from aqcl.figures import COLORS, GRAY

    spec = results["specification"]
    constants = constants_of(results)
    for value in constants:
        point(axes, value, row_of(results, f"alpha {value:g}", ALL), COLORS[0], "o")
    base = row_of(results, spec["base"], ALL)
    axes.annotate(
        f"curve of\n{spec['base']}", (1.07, base["auc"]), xytext=(0, 3), color=GRAY, fontsize=9,
        textcoords="offset points",
    )  # fmt: skip
    axes.set_xlim(-0.1, 1.4)
    axes.set_xticks(constants)
    axes.set_xlabel("constant alpha")


def draw_searches(axes: "Axes", results: Mapping[str, Any]) -> None:
    """Right: a point for each search over what it cost."""
    from aqcl.figures import GRAY, curve_style

    places: list[float] = []
    for number, name in enumerate(trained(results)):
        style = curve_style(number)
        x = trainings(results, name)
        while any(abs(x / other - 1) < APART for other in places):
            x *= 1 + APART  # bars on top of each other cannot be told apart
        places.append(x)
        point(axes, x, row_of(results, name, ALL), style["color"], style["marker"], label=name)
    axes.axvline(2, color=GRAY, linewidth=1, linestyle=":", zorder=1)
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 4, 8, 16]
    axes.set_xlim(min(0.5, *places) * 0.8, max(4, *places) * 1.25)
    low, high = axes.get_xlim()
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("training rows of the search, in trainings (dotted: 2)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=8)


def point(
    axes: "Axes", x: float, row: Mapping[str, Any], color: str, marker: str, label: str = ""
) -> None:
    """An AUC with the paired interval of its difference, moved to where the AUC is."""
    auc, gap = row["auc"], row["difference"]
    bars = [[gap - row["difference_low"]], [row["difference_high"] - gap]]
    axes.errorbar(
        [x], [auc], yerr=bars, color=color, marker=marker, capsize=3, linestyle="", zorder=3,
        label=label or None,
    )  # fmt: skip
