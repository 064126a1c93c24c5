"""Users, rows and values numbered from 0, in 32 bits where the numbers fit."""

from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int, Shaped

_SPARSEST = 2  # largest id per row up to which a table of all ids is smaller than a sort


def number_users(user: Shaped[np.ndarray, " N"]) -> tuple[Int[np.ndarray, " N"], int]:
    """Number the users in ascending order of their ids.

    Args:
        user: user of each row.

    Returns:
        The number of each row's user, and how many users there are.
    """
    kind = index_type(len(user))
    if len(user) and user.dtype.kind in "iu" and user.min() >= 0:
        largest = int(user.max())
        if largest < _SPARSEST * len(user):
            known = np.zeros(largest + 1, dtype=np.bool_)
            known[user] = True
            number = np.cumsum(known, dtype=kind)
            number -= 1
            return number[user], int(np.count_nonzero(known))
    users, numbers = np.unique(user, return_inverse=True)
    return numbers.astype(kind), len(users)


def rows_by_score(score: Shaped[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The row numbers in ascending order of the scores, ties in any order."""
    return np.argsort(score).astype(index_type(len(score)))


def levels(ascending: Shaped[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Each value's place among the distinct values, from 0."""
    found = np.zeros(len(ascending), dtype=index_type(len(ascending)))
    np.cumsum(ascending[1:] != ascending[:-1], out=found[1:])
    return found


def index_type(size: int) -> type[np.signedinteger[Any]]:
    """The shorter type that holds 0 to `size`."""
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


Numbers = npt.NDArray[np.signedinteger[Any]]
"""Numbers of users or rows."""
