"""Where the groups of users or items are cut, without torch, which preparing has no need of."""

import numpy as np
from jaxtyping import Int

from aqcl.errors import DataError


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
