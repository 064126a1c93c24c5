"""Users, rows and values numbered from 0, in 32 bits where the numbers fit."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int, Shaped

from aqcl.spill import chunks, made, partition, parts_needed

Numbers = npt.NDArray[np.signedinteger[Any]]
"""Numbers of users or rows."""

_SPARSEST = 2  # largest id per row up to which a table of all ids is smaller than a sort
_SAMPLED_PER_PART = 128  # scores by which rows are divided: parts differ by some tenth


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
            for chunk in chunks(len(user)):
                known[user[chunk]] = True
            number = np.cumsum(known, dtype=kind)
            number -= 1
            numbers = made(kind, len(user), lambda chunk: number[user[chunk]])
            return numbers, int(np.count_nonzero(known))
    users, numbers = np.unique(user, return_inverse=True)
    return numbers.astype(kind), len(users)


def count_users(user: Int[np.ndarray, " N"], n_users: int) -> Int[np.ndarray, " {n_users}"]:
    """The rows of each user, numbered from 0."""
    counts = np.zeros(n_users, dtype=np.int64)
    for chunk in chunks(len(user)):
        counts += np.bincount(user[chunk], minlength=n_users)
    return counts


def rows_by_score(score: Shaped[np.ndarray, " N"]) -> Iterator[Int[np.ndarray, " rows"]]:
    """The row numbers in ascending order of the scores, ties in any order, as `parts_by_score`."""
    for rows in parts_by_score(score):
        yield rows[np.argsort(score[rows])]


def parts_by_score(score: Shaped[np.ndarray, " N"]) -> Iterator[Int[np.ndarray, " rows"]]:
    """The rows of a range of scores after those of the range below, ascending in each part.

    Ties are never in two parts: one has as many rows as a score has, if need be.
    """
    kind, edges = index_type(len(score)), _edges(score, parts_needed(len(score)))
    if not len(edges):
        yield np.arange(len(score), dtype=kind)
        return

    def part_of(chunk: slice) -> Numbers:
        return np.searchsorted(edges, score[chunk], side="right")

    yield from partition(len(score), len(edges) + 1, part_of, kind)


def _edges(score: Shaped[np.ndarray, " N"], n_parts: int) -> npt.NDArray[Any]:
    """The lowest score of each part but the first; fewer where many scores tie."""
    every = max(1, len(score) // (n_parts * _SAMPLED_PER_PART or 1))
    sample = np.sort(score[::every])
    return np.unique(sample[[len(sample) * part // n_parts for part in range(1, n_parts)]])


def rows_by_user(
    user: Int[np.ndarray, " N"], counts: Int[np.ndarray, " U"]
) -> Iterator[tuple[int, int, Int[np.ndarray, " rows"]]]:
    """The rows of some users after those of others, no user's in two parts.

    Args:
        user: user of each row, numbered from 0.
        counts: the rows of each user.

    Returns:
        The first user of each part, the first one of the next, and the numbers of the rows.
    """
    n_parts = parts_needed(len(user))
    ends = np.cumsum(counts)
    shares = [len(user) * part // n_parts for part in range(1, n_parts)]
    cuts = np.unique(np.searchsorted(ends, shares, side="right"))
    bounds = [0, *cuts.tolist(), len(counts)]

    def part_of(chunk: slice) -> Numbers:
        return np.searchsorted(cuts, user[chunk], side="right")

    parts = partition(len(user), len(cuts) + 1, part_of, index_type(len(user)))
    for (first, end), rows in zip(pairwise(bounds), parts, strict=True):
        yield first, end, rows


def levels(ascending: Shaped[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Each value's place among the distinct values, from 0."""
    found = np.zeros(len(ascending), dtype=index_type(len(ascending)))
    np.cumsum(ascending[1:] != ascending[:-1], out=found[1:])
    return found


def index_type(size: int) -> type[np.signedinteger[Any]]:
    """The shorter type that holds 0 to `size`."""
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64
