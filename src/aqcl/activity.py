"""How active a user is: the three groups of the paper's tables and the alpha curve."""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from aqcl.errors import ConfigError, DataError

GROUPS: Final = ("non-active", "slightly-active", "highly-active")
"""The groups, least active first: about 60%, 30% and 10% of the users."""


def alpha(
    activity: Float[Tensor, " B"], mean_activity: float, w1: float, w2: float
) -> Float[Tensor, " B"]:
    """Weight of the clusters against the user's own view: exp(-w1 (L_j / L)^w2), no gradient.

    It is 1 for a user without clicks and e^-w1 at the mean. `w2 = 0` is the constant e^-w1,
    for users without clicks too.

    Args:
        activity: L_j, clicks of the user before the sample.
        mean_activity: L, mean number of train clicks of a train user.
        w1: how far alpha falls, 0 or more.
        w2: how sharply it falls around the mean, 0 or more.

    Reference: arXiv 2109.13921, section 4.2.2, equation 6.

    Raises:
        ConfigError: a parameter out of its range.
    """
    if not mean_activity > 0:
        raise ConfigError(f"mean_activity: expected a number above 0, got {mean_activity}")
    for name, value in (("w1", w1), ("w2", w2)):
        if not 0 <= value < float("inf"):
            raise ConfigError(f"{name}: expected a finite number, 0 or more, got {value}")
    with torch.no_grad():
        return torch.exp(-w1 * (activity / mean_activity) ** w2)


def group_thresholds(activity_per_user: Int[np.ndarray, " U"]) -> tuple[int, int]:
    """The smallest integer activities that reach 60% and 90% of the users.

    Args:
        activity_per_user: L_j of each user at their first row of the split.

    Raises:
        DataError: there is no user.
    """
    n_users = len(activity_per_user)
    if n_users == 0:
        raise DataError("activity groups: expected at least one user, got none")
    ascending = np.sort(activity_per_user)
    # the k-th smallest value is the smallest integer that at least k users do not exceed
    low, high = (int(ascending[-(-n_users * tenths // 10) - 1]) for tenths in (6, 9))
    return low, high


def user_groups(
    user: Int[np.ndarray, " N"],
    activity: Int[np.ndarray, " N"],
    thresholds: tuple[int, int],
    timestamp: Int[np.ndarray, " N"] | None = None,
) -> Int8[np.ndarray, " N"]:
    """The group of each row: that of its user at the user's first row.

    Args:
        user: user of each row, rows in any order.
        activity: clicks of the user before each row.
        thresholds: the most clicks of a non-active and of a slightly active user.
        timestamp: decides which row of a user is first; without it, the first in the arrays.

    Returns:
        Indices into `GROUPS`.
    """
    order = np.arange(len(user)) if timestamp is None else np.argsort(timestamp, kind="stable")
    _, first, member = np.unique(user[order], return_index=True, return_inverse=True)
    of_user = np.searchsorted(np.asarray(thresholds), activity[order][first], side="left")
    groups = np.empty(len(user), dtype=np.int8)
    groups[order] = of_user[member]
    return groups
