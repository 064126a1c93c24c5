"""One pass over the rows of a click log: what is wrong with them, and which values there are."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from aqcl.click_log import BELOW_SECOND, ClickLog
from aqcl.errors import DataError
from aqcl.schema import Field
from aqcl.splits import SplitSettings, moment, shown, utc_date
from aqcl.vocab import normalised

Int64s = npt.NDArray[np.int64]

BATCH_ROWS = 1_000_000
"""Rows that are in memory at once; a log of fewer is read once and not twice."""

logger = logging.getLogger(__name__)

_LIKELY = ("1990-01-01", "2100-01-01")
_ENTITY_TYPES = (pl.Int64, pl.String)


@dataclass(frozen=True)
class Distinct:
    """The distinct values of a column."""

    values: pl.Series
    """Sorted, without nulls. A value's place in it is its code."""
    rows: Int64s
    """Rows of the log that hold each value."""


@dataclass(frozen=True)
class Census:
    """What the rows of a log hold."""

    rows: pl.LazyFrame
    """To be read again, in file order, without those from `split.until` on."""
    n_rows: int
    until: int | None
    """`split.until` as a timestamp."""
    n_left_out: int
    """Rows from `until` on."""
    latest: int
    """The largest timestamp."""
    labelled: bool
    columns: dict[str, Distinct]
    """Of `user`, `item` and each categorical context field."""


def batches(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The rows in file order, a batch at a time."""
    yield from rows.collect_batches(chunk_size=BATCH_ROWS, engine="streaming")


def take_census(log: ClickLog, context: Sequence[Field], split: SplitSettings) -> Census:
    """Read and check the rows of a log.

    Args:
        log: the click log.
        context: the fields of side `context` to keep.
        split: for its `until`.

    Raises:
        ConfigError: `split.until` is no moment of this log.
        DataError: a column is missing, of the wrong type or holds nulls, or there are no rows.
    """
    rows, until = _checked_columns(log, context), None
    if split.until is not None:
        until = moment(split.until, log.time_unit, "split.until")
    categorical = [field.name for field in context if field.kind == "categorical"]
    tallies = {name: _Tally() for name in ("user", "item", *categorical)}
    faults = _Faults(log.name)
    kept = rows if until is None else rows.filter(pl.col("timestamp") < until)
    latest, n_kept = -(2**63), 0
    held: list[pl.DataFrame] = []
    for every_row in batches(rows):
        faults.look_at(every_row)
        batch = every_row
        if until is not None:
            batch = every_row.filter(pl.col("timestamp") < until)
        for name, tally in tallies.items():
            tally.add(normalised(batch[name]))
        latest = max([latest, *_ends(batch["timestamp"])])
        n_kept += len(batch)
        held = [*held, batch] if n_kept <= BATCH_ROWS else []
    faults.report()
    if not n_kept:
        raise DataError(
            f"log {log.name}: no rows before split.until = {split.until}; the earliest timestamp "
            f"is {shown(faults.earliest, log.time_unit)}"
        )
    _check_dates(log, faults.earliest, latest)
    if until is not None and n_kept == faults.n_rows:
        logger.warning(
            "log %s: split.until = %s leaves no row out, the latest timestamp is %s",
            *(log.name, split.until, shown(latest, log.time_unit)),
        )
    return Census(
        rows=pl.concat(held).lazy() if n_kept <= BATCH_ROWS else kept,
        n_rows=n_kept,
        until=until,
        n_left_out=faults.n_rows - n_kept,
        latest=latest,
        labelled="label" in kept.collect_schema(),
        columns={name: tally.distinct(name) for name, tally in tallies.items()},
    )


def _checked_columns(log: ClickLog, context: Sequence[Field]) -> pl.LazyFrame:
    types = log.rows.collect_schema()
    optional = [name for name in (BELOW_SECOND, "label") if name in types]
    wanted = ("user", "item", "timestamp", *optional, *(field.name for field in context))
    missing = [name for name in wanted if name not in types]
    if missing:
        raise DataError(
            f"log {log.name}: no column {', '.join(missing)}; it has {', '.join(types.names())}"
        )
    for column in ("user", "item"):
        if types[column] not in _ENTITY_TYPES:
            raise DataError(
                f"log {log.name}, column {column}: expected Int64 or String, got {types[column]}"
            )
    if types["timestamp"] != pl.Int64:
        raise DataError(
            f"log {log.name}, column timestamp: expected Int64, got {types['timestamp']}"
        )
    for field in context:
        _check_field(field, pl.Series(field.name, [], dtype=types[field.name]), log.name)
    return log.rows.select(wanted)


def _check_field(field: Field, no_values: pl.Series, name: str) -> None:
    if field.kind == "categories":
        raise DataError(
            f"log {name}, field {field.name}: a context field holds one value a row; "
            "use kind 'categorical', or a user or item field"
        )
    if field.kind == "categorical":
        normalised(no_values)
    elif not no_values.dtype.is_numeric():
        raise DataError(f"column {field.name}: expected numbers, got {no_values.dtype}")


def _check_dates(log: ClickLog, earliest: int, latest: int) -> None:
    """Warn of moments at which nobody clicked: a unit taken for another gives such."""
    if log.time_unit == "position":
        return
    first, last = (utc_date(end, log.time_unit) for end in (earliest, latest))
    low, high = (moment(end, log.time_unit, "") for end in _LIKELY)
    if earliest < low or latest >= high:
        far_off = [
            "remove rows that are too early from the log" if earliest < low else "",
            "leave rows that are too late out with split.until" if latest >= high else "",
        ]
        logger.warning(
            "log %s: times from %s to %s (UTC), expected %s to %s; check the unit of the times "
            "(source.time_unit), or %s",
            *(log.name, first, last, *_LIKELY, " and ".join(filter(None, far_off))),
        )


def _ends(timestamps: pl.Series) -> list[int]:
    """The smallest and the largest, if there are any."""
    ends = (timestamps.min(), timestamps.max())
    return [end for end in ends if isinstance(end, int)]


class _Faults:
    """What is wrong with the rows, to be told when all of them were seen."""

    def __init__(self, name: str) -> None:
        self.n_rows = 0
        self.earliest = 2**63 - 1
        self._name = name
        self._nulls: dict[str, tuple[int, int]] = {}
        self._bad_label: str | None = None
        self._labels: set[int] = set()

    def look_at(self, batch: pl.DataFrame) -> None:
        for column in ("user", "item", "timestamp"):
            if n_null := batch[column].null_count():
                first = self.n_rows + int(batch[column].is_null().arg_max() or 0)
                before, first = self._nulls.get(column, (0, first))
                self._nulls[column] = (before + n_null, first)
        if "label" in batch.columns and self._bad_label is None:
            self._look_at_labels(batch["label"])
        self.earliest = min([self.earliest, *_ends(batch["timestamp"])])
        self.n_rows += len(batch)

    def _look_at_labels(self, label: pl.Series) -> None:
        legal = label.is_in([0, 1]) if label.dtype.is_integer() else label.is_null() & False
        bad = legal.fill_null(False).not_()
        if bad.any():
            row = int(bad.arg_max() or 0)
            self._bad_label = (
                f"log {self._name}, column label, row {self.n_rows + row}: expected 0 or 1, "
                f"got {label[row]} ({label.dtype})"
            )
        else:
            self._labels |= {int(label.min()), int(label.max())}  # type: ignore[arg-type]

    def report(self) -> None:
        """Raise an error for the first kind of fault that there is."""
        if not self.n_rows:
            raise DataError(f"log {self._name}: no rows; expected one per click or impression")
        for column in ("user", "item", "timestamp"):
            if column in self._nulls:
                n_null, first = self._nulls[column]
                raise DataError(
                    f"log {self._name}, column {column}: {n_null} nulls, the first in row {first}; "
                    "leave such rows out"
                )
        if self._bad_label is not None:
            raise DataError(self._bad_label)
        if len(self._labels) == 1:
            kind, fix = (
                (
                    "1 (a click)",
                    "drop the label column to have negatives drawn (source.label = '')",
                )
                if 1 in self._labels
                else ("0 (no click)", "check how clicks are marked")
            )
            raise DataError(f"log {self._name}, column label: every row is {kind}; {fix}")


class _Tally:
    """Distinct values and their rows, gathered batch by batch."""

    def __init__(self) -> None:
        self._found: list[pl.DataFrame] = []
        self._n_merged = 0

    def add(self, values: pl.Series) -> None:
        counts = values.alias("value").value_counts(name="rows")
        self._found.append(counts.with_columns(pl.col("rows").cast(pl.Int64)))
        if sum(map(len, self._found)) > 2 * max(self._n_merged, BATCH_ROWS):
            self._found = [self._merged()]
            self._n_merged = len(self._found[0])

    def _merged(self) -> pl.DataFrame:
        return pl.concat(self._found).group_by("value").agg(pl.col("rows").sum())

    def distinct(self, name: str) -> Distinct:
        frame = self._merged().drop_nulls("value").sort("value")
        return Distinct(frame["value"].alias(name), frame["rows"].to_numpy())
