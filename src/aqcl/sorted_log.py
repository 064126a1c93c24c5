"""The rows of a click log as arrays, sorted by (user, time, file order) and numbered."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from aqcl.click_log import ClickLog
from aqcl.errors import DataError
from aqcl.schema import FIRST_ID
from aqcl.splits import TRAIN, SplitSettings, assign, moment
from aqcl.vocab import Vocabulary

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

_ENTITY_TYPES = (pl.Int64, pl.String)
_KEY_BITS = 32


@dataclass(frozen=True)
class SortedLog:
    """One element per row of the log in each array; users and items as entity ids."""

    user: Int32s
    item: Int32s
    timestamp: Int64s
    label: Int8s
    """All 1 in a log without labels."""
    part: Int8s
    """The split of each row, an index of `SPLITS`."""
    file_row: Int64s
    """Where each row stands in the log."""
    users: Vocabulary
    items: Vocabulary

    def train_rows(self, ids: Int32s, vocabulary: Vocabulary) -> Int64s:
        """Rows of the training split that each entity id has."""
        return np.bincount(ids[self.part == TRAIN], minlength=vocabulary.size)

    def train_clicks(self, ids: Int32s, vocabulary: Vocabulary) -> Int64s:
        """Clicks of the training split that each entity id has."""
        clicked = (self.part == TRAIN) & (self.label == 1)
        return np.bincount(ids[clicked], minlength=vocabulary.size)


def read_rows(
    log: ClickLog, context: Sequence[str], split: SplitSettings
) -> tuple[pl.DataFrame, int]:
    """Read and check the rows of a log.

    Returns:
        The rows before `split.until`, and how many others there are.

    Raises:
        DataError: a column is missing, of the wrong type or holds nulls, or there are no rows.
    """
    types = log.rows.collect_schema()
    labelled = ("label",) if "label" in types else ()
    wanted = ("user", "item", "timestamp", *labelled, *context)
    missing = [name for name in wanted if name not in types]
    if missing:
        raise DataError(
            f"log {log.name}: no column {', '.join(missing)}; it has {', '.join(types.names())}"
        )
    rows = log.rows.select(wanted).collect(engine="streaming")
    if rows.is_empty():
        raise DataError(f"log {log.name}: no rows; expected one per click or impression")
    _check_columns(rows, log.name)
    if split.until is None:
        return rows, 0
    until = moment(split.until, log.time_unit, "split.until")
    kept = rows.filter(pl.col("timestamp") < until)
    if kept.is_empty():
        raise DataError(
            f"log {log.name}: no rows before split.until = {split.until}; the earliest timestamp "
            f"is {rows['timestamp'].sort()[0]}"
        )
    return kept, len(rows) - len(kept)


def _check_columns(rows: pl.DataFrame, name: str) -> None:
    for column in ("user", "item"):
        if rows[column].dtype not in _ENTITY_TYPES:
            raise DataError(
                f"log {name}, column {column}: expected Int64 or String, got {rows[column].dtype}"
            )
    if rows["timestamp"].dtype != pl.Int64:
        raise DataError(
            f"log {name}, column timestamp: expected Int64, got {rows['timestamp'].dtype}"
        )
    for column in ("user", "item", "timestamp"):
        n_null = rows[column].null_count()
        if n_null:
            first = rows[column].is_null().arg_max()
            raise DataError(
                f"log {name}, column {column}: {n_null} nulls, the first in row {first}; "
                "leave such rows out"
            )
    if "label" in rows.columns:
        _check_labels(rows["label"], name)


def _check_labels(label: pl.Series, name: str) -> None:
    legal = label.is_in([0, 1]) if label.dtype.is_integer() else pl.Series([False])
    bad = legal.fill_null(False).not_()
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise DataError(
            f"log {name}, column label, row {row}: expected 0 or 1, got {label[row]} "
            f"({label.dtype})"
        )
    if label.n_unique() == 1:
        kind, fix = (
            ("1 (a click)", "drop the label column to have negatives drawn (source.label = '')")
            if label[0]
            else ("0 (no click)", "check how clicks are marked")
        )
        raise DataError(f"log {name}, column label: every row is {kind}; {fix}")


def sort_log(rows: pl.DataFrame, split: SplitSettings, log: ClickLog, min_count: int) -> SortedLog:
    """Sort, split and number the rows of `read_rows`.

    Known users and items, those with `min_count` training rows, get the first ids.

    Raises:
        DataError: a split would be empty, or no user or no item is known.
    """
    user_codes, user_values = _codes(rows["user"])
    item_codes, item_values = _codes(rows["item"])
    timestamp = rows["timestamp"].to_numpy()
    order = _time_order(user_codes, timestamp)
    part = assign(user_codes[order], timestamp[order], split, log.time_unit)
    trains = order[part == TRAIN]
    user, users = _number(user_codes, user_values, trains, min_count)
    item, items = _number(item_codes, item_values, trains, min_count)
    moved = np.argsort(user[order], kind="stable")  # the new ids permute whole users
    order, part = order[moved], part[moved]
    label = rows["label"].to_numpy() if "label" in rows.columns else np.ones(len(rows))
    return SortedLog(
        user=user[order],
        item=item[order],
        timestamp=timestamp[order],
        label=label[order].astype(np.int8),
        part=part,
        file_row=order,
        users=users,
        items=items,
    )


def _codes(values: pl.Series) -> tuple[Int64s, pl.Series]:
    """Each value's place among the sorted distinct values, and these."""
    distinct = values.unique().sort()
    codes = Vocabulary(distinct, len(distinct) + FIRST_ID).encode(values)
    return codes.astype(np.int64) - FIRST_ID, distinct


def _time_order(user: Int64s, timestamp: Int64s) -> Int64s:
    """The stable order by (user, timestamp)."""
    earliest, latest = int(timestamp.min()), int(timestamp.max())
    if latest - earliest < 2**_KEY_BITS:
        key = (user << _KEY_BITS) + (timestamp - earliest)
        return np.argsort(key, kind="stable")
    return np.lexsort((timestamp, user))


def _number(
    codes: Int64s, values: pl.Series, trains: Int64s, min_count: int
) -> tuple[Int32s, Vocabulary]:
    """Codes as entity ids, those with `min_count` rows in `trains` first."""
    known = np.bincount(codes[trains], minlength=len(values)) >= min_count
    n_known = int(known.sum())
    if not n_known:
        raise DataError(
            f"no {values.name} has {min_count} training rows; lower vocabulary.min_count"
        )
    order = np.argsort(~known, kind="stable")
    ids = np.empty(len(values), dtype=np.int32)
    ids[order] = np.arange(FIRST_ID, len(values) + FIRST_ID)
    return ids[codes], Vocabulary(values.gather(order), n_known + FIRST_ID)
