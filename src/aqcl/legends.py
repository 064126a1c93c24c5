"""Legends above the axes, for curves whose names users have chosen."""

from collections.abc import Iterable, Mapping
from typing import Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

AXIS: Final = 0.9
"""Inches of a figure beside its legend, for ticks and label of the vertical axis."""
SIGN: Final = 5.0
"""Width of the sign before a name and of the space behind it, in sizes of the text."""
LINE: Final = 1.66
"""Height of a row, in sizes of the text."""


def legend_above(axes: Axes, curves: Mapping[str, Artist], size: int = 10) -> None:
    """A legend above the axes, where no curve is; the figure grows by the height of its rows.

    It has as many columns as fit beside each other. A name that is wider than the figure is
    shortened in its middle.

    Args:
        axes: whose legend it is, the only ones of their figure that have one.
        curves: what each name stands for.
        size: of the text, in points.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    room = (figure.get_figwidth() - AXIS) * 72
    names = _fitting(curves, room - SIGN * size, size)
    widest = max(_width(name, size) for name in names)
    columns = max(1, min(len(names), int(room / (widest + SIGN * size))))
    rows = -(-len(names) // columns)
    figure.set_figheight(figure.get_figheight() + (rows - 1) * LINE * size / 72)
    axes.legend(
        list(curves.values()),
        # matplotlib leaves out what begins with an underscore: a space without width hides it.
        [f"\u200b{name}" if name.startswith("_") else name for name in names],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        frameon=False,
        fontsize=size,
    )


def _fitting(names: Iterable[str], room: float, size: int) -> list[str]:
    """Names that are no wider than so many points; those that would then be alike are numbered."""
    found = [_shortened(name, room, size) for name in names]
    if len(set(found)) == len(found):
        return found
    return [_shortened(f"{number}: {name}", room, size) for number, name in enumerate(names, 1)]


def _shortened(name: str, room: float, size: int) -> str:
    """A name without so much of its middle that the rest is no wider than `room`."""
    shown, half = name, len(name) // 2
    while half > 1 and _width(shown, size) > room:
        half -= 1
        shown = f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"
    return shown


def _width(name: str, size: int) -> float:
    font = FontProperties(size=size)
    return float(text_to_path.get_text_width_height_descent(name, font, ismath=False)[0])
