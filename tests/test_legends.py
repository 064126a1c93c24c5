"""Legends take no room from the axes, however long or many the names are."""

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aqcl.figures import best_so_far_figure, trajectory_figure
from aqcl.report.charts import calibration_figure, curves_figure
from tests.report.test_charts import predictions

LONG = "my_company.recommenders.models.variant_{}.networks:DeepInterestNetwork"
NAMES = {
    "4 of 30 letters": [f"DIN + AQCL, temperature 0.{k:04}" for k in range(4)],
    "4 of 70 letters": [LONG.format(k) for k in range(4)],
    "4 of 70 wide letters": [f"{'W' * 69}{k}" for k in range(4)],
    "40 short ones": [f"method {k}" for k in range(40)],
}


def drawn(names: list[str]) -> list[Figure]:
    """Figures of each width, with all the names in their legend."""
    runs = {"seed": [(k, k / 3) for k in range(3)]}
    return [
        curves_figure(dict.fromkeys(names, runs), "rows", "AUC"),
        calibration_figure({name: [predictions()] for name in names}),
        best_so_far_figure({name: [0.5, 0.6] for name in names}, "AUC"),
        trajectory_figure([4, 8], {name: [0.1, 0.2] for name in names}, 8, log=False),
    ]


def inches(axes: Axes) -> tuple[float, float]:
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]
    box = axes.get_window_extent()
    return box.width / figure.dpi, box.height / figure.dpi


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_axes_keep_their_size_and_every_name_is_told_apart(names: list[str]) -> None:
    for figure, alone in zip(drawn(names), drawn(["din", "aqcl"]), strict=True):
        (axes,) = figure.axes
        width, height = inches(axes)
        usual_width, usual_height = inches(alone.axes[0])
        assert width > 0.9 * usual_width
        assert height > 0.9 * usual_height
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_window_extent().x1 <= figure.bbox.x1
        assert len({entry.get_text() for entry in legend.get_texts()}) == len(names)


def test_a_long_name_keeps_both_its_ends() -> None:
    names = [f"first {'x' * 90} last", f"one {'x' * 90} more"]
    legend = best_so_far_figure({name: [0.5] for name in names}, "AUC").axes[0].get_legend()
    assert legend is not None
    first, one = (entry.get_text() for entry in legend.get_texts())
    assert first.startswith("first xxx")
    assert first.endswith("xxx last")
    assert "\N{HORIZONTAL ELLIPSIS}" in first
    assert one.startswith("one xxx")
