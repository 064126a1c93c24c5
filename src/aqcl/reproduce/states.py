"""How far a comparison has come, in the words that outcomes hold."""

from collections.abc import Mapping
from typing import Any

FINISHED = "finished"
"""The state of a cell whose runs are all there; another begins with `NOT_RUN` and says why."""
NOT_RUN = "not run"
"""The verdict on a claim before its runs have finished."""


def finished_cells(comparison: Mapping[str, Any]) -> list[str]:
    """Labels of the cells that have finished."""
    return [label for label, state in comparison["cells"].items() if state == FINISHED]


def missing_cells(comparison: Mapping[str, Any]) -> dict[str, str]:
    """The state of each of the other cells, by label."""
    return {label: state for label, state in comparison["cells"].items() if state != FINISHED}
