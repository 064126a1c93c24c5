"""The range of the penalty widened where a winner lies at an end of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aqcl.search.plan import SearchPlan
from aqcl.search.space import FACTOR, PENALTY, Side, shown, touched_side, widened


def widened_plan(
    plan: SearchPlan, winners: Mapping[str, Mapping[str, Any]]
) -> tuple[SearchPlan, str] | None:
    """The plan with a wider range for the penalty, for all methods alike, and why.

    Args:
        plan: as it was searched.
        winners: settings of the winner of each method, by dotted key.

    Returns:
        None where no winner touches an end of the range, or nothing lies beyond it.
    """
    sides: dict[Side, None] = {}
    touching = []
    for method in plan.methods:
        dimension, value = method.space.searched.get(PENALTY), winners[method.name].get(PENALTY)
        side = touched_side(dimension, value) if dimension is not None and value else None
        if dimension is not None and side is not None and widened(dimension, [side]) is not None:
            sides[side] = None
            touching.append(
                f"{method.name} has {value:.3g}, in the outer tenth of {shown(dimension)}"
            )
    if not touching:
        return None
    more = plan.options.widen_trials
    reason = (
        f"{PENALTY}: the winner of {'; that of '.join(touching)}: widened by a factor of "
        f"{FACTOR:g} on the {' and the '.join(sides)} side, {more} more trials of each method"
    )
    return _wider(plan, tuple(sides)), reason


def _wider(plan: SearchPlan, sides: Sequence[Side]) -> SearchPlan:
    """The plan with a wider range in every method that has a range for the penalty."""
    methods = []
    for method in plan.methods:
        searched = dict(method.space.searched)
        made = widened(searched[PENALTY], sides) if PENALTY in searched else None
        if made is not None:
            searched[PENALTY] = made
        methods.append(replace(method, space=replace(method.space, searched=searched)))
    return replace(plan, methods=tuple(methods))
