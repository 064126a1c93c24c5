"""The plots of docs/performance.md, drawn from the stored records."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""Told apart by colour-blind readers too (Okabe and Ito)."""
STAGES = ("prepare", "train", "evaluate", "search")
MARKERS = ("o", "s", "^", "D")
Records = Mapping[str, dict[str, Any]]


def draw(records: Records, folder: Path, kind: str = "svg") -> list[Path]:
    """Draw each plot whose records are there; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with rc_context({"svg.hashsalt": "aqcl", "axes.spines.top": False}):
        for name, (part, plot) in PLOTS.items():
            if part not in records:
                continue
            figure = plot(records[part]["outcome"])
            path = folder / f"performance-{name}.{kind}"
            # Without the date, so that the same records give the same file.
            figure.savefig(path, metadata={"Date": None} if kind == "svg" else None)
            drawn.append(path)
    return drawn


def time_by_rows(outcome: Mapping[str, Any]) -> Figure:
    """Microseconds a row of each stage against the rows of the log."""
    return _by_rows(outcome, "microseconds_per_row", "µs a row")


def memory_by_rows(outcome: Mapping[str, Any]) -> Figure:
    """Memory of its own of each stage against the rows of the log."""
    return _by_rows(outcome, "peak_anon_mib", "MiB of its own at most")


def _by_rows(outcome: Mapping[str, Any], key: str, label: str) -> Figure:
    figure, axes = _figure("rows of the log", label)
    for number, stage in enumerate(STAGES):
        measured = points(outcome["sizes"], stage, key)
        if measured:
            _line(axes, number, stage, measured)
    _logarithmic(axes)
    return figure


def step_by_users(outcome: Mapping[str, Any]) -> Figure:
    """Milliseconds of a step against the number of users, by optimizer."""
    figure, axes = _figure("users", "ms a step of DIN")
    for number, (name, by_users) in enumerate(outcome["optimizers"].items()):
        _line(axes, number, name, [(int(n), found["step_ms"]) for n, found in by_users.items()])
    _logarithmic(axes)
    return figure


def items_of_a_step(outcome: Mapping[str, Any]) -> Figure:
    """Predicted and measured milliseconds of each item of a DIN + AQCL step."""
    threads = max(outcome["threads"], key=int)
    items = outcome["threads"][threads]["DIN+AQCL"]["items"]
    figure = Figure(figsize=(7, 0.34 * len(items) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(items), 0, -1)
    for shift, label in enumerate(("predicted", "measured")):
        widths = [item[f"{label}_ms"] for item in items.values()]
        at = [place + 0.2 - 0.4 * shift for place in places]
        axes.barh(at, widths, height=0.38, color=COLOURS[shift], label=label)
    axes.set_yticks(list(places), list(items))
    axes.set_xlabel(f"ms of a DIN + AQCL step, {threads} threads")
    axes.spines["right"].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines["right"].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes


def points(sizes: Mapping[str, Any], stage: str, key: str) -> list[tuple[int, float]]:
    """Rows of the log and a figure of a stage."""
    return [(int(size), stages[stage][key]) for size, stages in sizes.items() if stage in stages]


def _line(axes: Axes, number: int, label: str, values: list[tuple[int, float]]) -> None:
    x, y = zip(*values, strict=True)
    axes.plot(x, y, marker=MARKERS[number], color=COLOURS[number], label=label)


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend(frameon=False)


PLOTS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Figure]]] = {
    "time": ("growth", time_by_rows),
    "memory": ("growth", memory_by_rows),
    "optimizers": ("optimizers", step_by_users),
    "items": ("roofline", items_of_a_step),
}
