"""Rows that say again what earlier rows of their user say: copies, and clicks on the same item."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from aqcl import negatives
from aqcl.prepare.sorted_log import SortedLog

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Repeats:
    """Marks of the rows of a block."""

    copy: Mask
    """Rows with the user, item, time and label of an earlier one."""
    again: Mask
    """Rows whose history holds their own item; none in a log with labels."""


def find_repeats(log: SortedLog, ties: Literal["exclude", "order"], *, labelled: bool) -> Repeats:
    """Mark the rows of a block.

    Args:
        log: the block.
        ties: see `SplitSettings`.
        labelled: whether the log has labels; else every row is a click.
    """
    copy, again = np.zeros((2, len(log.user)), dtype=np.bool_)
    rows = _tied(log) if labelled else np.arange(len(log.user))
    keys = negatives.pack(log.user[rows], log.item[rows]).astype(np.uint64)
    keys = keys << np.uint64(1) | log.label[rows].astype(np.uint64)
    # Stable: what is alike stays in the order of time.
    order = np.argsort(keys, kind="stable")
    rows, keys = rows[order], keys[order]
    alike, time = keys[1:] == keys[:-1], log.timestamp[rows]
    copy[rows[1:]] = alike & (time[1:] == time[:-1])
    if not labelled:
        first = np.maximum.accumulate(np.where(np.append(True, ~alike), np.arange(len(rows)), 0))
        earlier = first < np.arange(len(rows)) if ties == "order" else time[first] < time
        again[rows] = earlier
    return Repeats(copy, again)


def _tied(log: SortedLog) -> npt.NDArray[np.int64]:
    """The rows at one time with another of their user: only these can be copies."""
    alike = (np.diff(log.user) == 0) & (np.diff(log.timestamp) == 0)
    return np.flatnonzero(np.append(False, alike) | np.append(alike, False))
