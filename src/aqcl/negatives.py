"""Items that a user did not click, drawn by popularity; every draw is a hash of its place.

A draw depends on (seed, epoch, row, attempt) alone, so rows may be drawn in any order and in
any batch. Reference: S. Vigna's splitmix64 finaliser.
"""

import numpy as np
import numpy.typing as npt

from aqcl.schema import FIRST_ID, PADDING

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_Words = npt.NDArray[np.uint64]

_ROUNDS = 48
_LEAST_SHARE = 2.0**-50
_GOLDEN = 0x9E3779B97F4A7C15
_SECOND = 0xD1B54A32D192ED03
_MASK = 2**64 - 1


def pack(users: npt.NDArray[np.integer], items: npt.NDArray[np.integer]) -> Int64s:
    """(user, item) pairs as one integer each, ordered like the pairs."""
    return (users.astype(np.int64) << 32) | items.astype(np.int64)


def cumulative_weights(
    counts: npt.NDArray[np.integer], beta: float, *, clicked: bool = False
) -> Floats:
    """Cumulative probabilities, rising to 1, of drawing each item: (count + 1)^beta.

    Args:
        counts: training clicks of each item id; padding and unknown are never drawn.
        beta: 0 for uniform, 1 for proportional to popularity.
        clicked: whether only items with training clicks are drawn.
    """
    weights = (counts + 1.0) ** beta
    # Else cumulated weights cannot tell a very unpopular item from one that is never drawn.
    weights = np.maximum(weights, weights.sum() * _LEAST_SHARE)
    weights[:FIRST_ID] = 0.0
    if clicked:
        weights[counts == 0] = 0.0
    cdf: Floats = np.cumsum(weights)
    cdf /= cdf[-1]
    return cdf


def draw(
    users: npt.NDArray[np.integer],
    rows: npt.NDArray[np.integer],
    cdf: Floats,
    seen: Int64s,
    seed: int,
    epoch: int = 0,
) -> Int32s:
    """One item for each row, never one that the user has seen.

    Args:
        users: user id of each row.
        rows: number of each row, the place of its random numbers.
        cdf: from `cumulative_weights`.
        seen: sorted, distinct `pack`ed pairs that must not be drawn.
        seed: of the whole set of draws.
        epoch: another epoch, other draws.

    Returns:
        Item ids; `PADDING` for a user who has seen every item.
    """
    items = np.full(len(users), PADDING, dtype=np.int32)
    states = _states(rows, seed, epoch)
    open_rows = np.arange(len(users))
    for attempt in range(_ROUNDS):
        if not len(open_rows):
            return items
        drawn = np.searchsorted(cdf, _uniform(states[open_rows], attempt), side="right")
        fresh = ~_contains(seen, pack(users[open_rows], drawn))
        items[open_rows[fresh]] = drawn[fresh]
        open_rows = open_rows[~fresh]
    open_rows = open_rows[np.argsort(users[open_rows], kind="stable")]
    starts = np.flatnonzero(np.diff(users[open_rows], prepend=-1))
    for rows_of_one in np.split(open_rows, starts)[1:]:
        chances = _uniform(states[rows_of_one], _ROUNDS)
        items[rows_of_one] = _draw_unseen(int(users[rows_of_one[0]]), chances, cdf, seen)
    return items


def _draw_unseen(user: int, chances: Floats, cdf: Floats, seen: Int64s) -> Int64s:
    """The exact draws from the items left, for a user who has seen nearly all the weight."""
    first, last = np.searchsorted(seen, [user << 32, (user + 1) << 32])
    weights = np.diff(cdf, prepend=0.0)
    legal = weights > 0
    legal[seen[first:last] & 0xFFFFFFFF] = False
    left = np.flatnonzero(legal)
    if not len(left):
        return np.full(len(chances), PADDING)
    total = np.cumsum(weights[left])
    places = np.searchsorted(total, chances * total[-1], side="right")
    drawn: Int64s = left[np.minimum(places, len(left) - 1)]
    return drawn


def _contains(sorted_values: Int64s, wanted: Int64s) -> npt.NDArray[np.bool_]:
    if not len(sorted_values):
        return np.zeros(len(wanted), dtype=bool)
    places = np.searchsorted(sorted_values, wanted)
    found: npt.NDArray[np.bool_] = sorted_values.take(places, mode="clip") == wanted
    return found


def _states(rows: npt.NDArray[np.integer], seed: int, epoch: int) -> _Words:
    key = _mix(np.array([(seed * _GOLDEN + epoch * _SECOND) & _MASK], dtype=np.uint64))
    return _mix(key + rows.astype(np.uint64) * np.uint64(_GOLDEN))


def _uniform(states: _Words, attempt: int) -> Floats:
    words = _mix(states + np.uint64(((attempt + 1) * _SECOND) & _MASK))
    unit: Floats = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return unit


def _mix(words: _Words) -> _Words:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
