"""Legends above the axes, for curves whose names users have chosen."""

from collections.abc import Mapping

from matplotlib.artist import Artist
from matplotlib.axes import Axes


def legend_above(
    axes: Axes, curves: Mapping[str, Artist], columns: int = 4, size: int = 10
) -> None:
    """A legend above the axes, where no curve is.

    Args:
        axes: whose legend it is.
        curves: what each name stands for.
        columns: most names beside each other.
        size: of the text, in points.
    """
    axes.legend(
        list(curves.values()),
        [_shown(name) for name in curves],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=min(len(curves), columns),
        frameon=False,
        fontsize=size,
    )


def _shown(name: str) -> str:
    # matplotlib leaves out what begins with an underscore: a space without width goes before it.
    return f"\u200b{name}" if name.startswith("_") else name
