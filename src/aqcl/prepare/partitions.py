"""The rows of a log on disk, cut by ranges of users, so that no more are in memory at once.

A partition is small enough to be sorted in memory, and sorted partitions one after the other
are the sorted log, however many there are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from aqcl.click_log import BELOW_SECOND
from aqcl.errors import DataError
from aqcl.prepare.census import Census, Distinct, batches
from aqcl.schema import FIRST_ID
from aqcl.vocab import Vocabulary
from aqcl.workers import in_order

Array = npt.NDArray[Any]
Columns = Mapping[str, Array]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

PARTITION_ROWS = 1_000_000
"""About as many samples are made in memory at once, on each thread."""

_CHANGED = (
    "the log was read twice and had other rows, users or items the second time: something writes "
    "to it; prepare it again when it is whole"
)
_KEY_BITS = 32
_SPARSE = 4
"""Integer values are looked up in a table if it has at most so many places for each of them."""


@dataclass(frozen=True)
class Partition:
    """The rows of a range of users, as a file for each column."""

    folder: Path
    number: int
    users: range
    """Their codes, see `Distinct`."""
    types: Mapping[str, str]

    def read(self) -> dict[str, Array]:
        """All columns: those of the log, with values as codes, -1 for null."""
        return {name: np.fromfile(self._path(name), dtype) for name, dtype in self.types.items()}

    def append(self, columns: Columns) -> None:
        """Write rows behind those that are there."""
        self._write(columns, "ab")

    def sort(self) -> None:
        """Sort the rows by user and time, with ties in file order.

        Times finer than the log's unit decide first, where they are known.
        """
        columns = self.read()
        order = _time_order(columns["user"], columns["timestamp"], columns.get(BELOW_SECOND))
        if order is not None:
            self._write({name: column[order] for name, column in columns.items()}, "wb")

    def _write(self, columns: Columns, mode: str) -> None:
        for name, dtype in self.types.items():
            with self._path(name).open(mode) as file:
                file.write(np.ascontiguousarray(columns[name], dtype).data)

    def _path(self, column: str) -> Path:
        return self.folder / f"{self.number:05d}.{column}"


def write_partitions(
    census: Census, numeric: Sequence[str], folder: Path, samples_per_row: int = 1
) -> list[Partition]:
    """Read the rows a second time and write them, sorted, in partitions.

    Args:
        census: of the rows.
        numeric: the context fields that are numbers; all others of the census are codes.
        folder: an empty directory for them.
        samples_per_row: how many samples become of a row.

    Raises:
        DataError: they are not the rows that the census saw.
    """
    users = census.columns["user"]
    bounds = _bounds(users.rows, max(PARTITION_ROWS // samples_per_row, 1))
    types = {"user": "<i4", "item": "<i4", "timestamp": "<i8"}
    types |= {BELOW_SECOND: "<i8"} if BELOW_SECOND in census.rows.collect_schema() else {}
    types |= {"label": "|i1"} if census.labelled else {}
    types |= {name: "<i4" for name in census.columns if name not in types}
    types |= dict.fromkeys(numeric, "<f8")
    partitions = [
        Partition(folder, number, range(int(bounds[number]), int(bounds[number + 1])), types)
        for number in range(len(bounds) - 1)
    ]
    numbers = np.arange(len(partitions), dtype=np.min_scalar_type(len(partitions)))
    owner_of_user = np.repeat(numbers, np.diff(bounds))
    encoders = {name: _encoder(distinct) for name, distinct in census.columns.items()}
    n_rows = 0
    for batch in batches(census.rows):
        if batch.is_empty():  # all of it lies beyond `split.until`
            continue
        columns = {
            name: encoders[name](batch[name]) if name in encoders else _numbers(batch[name])
            for name in types
        }
        n_rows += len(batch)
        if n_rows > census.n_rows or min(columns["user"].min(), columns["item"].min()) < 0:
            raise DataError(_CHANGED)
        _distribute(columns, owner_of_user[columns["user"]], partitions)
    if n_rows < census.n_rows:
        raise DataError(_CHANGED)
    for _ in in_order(Partition.sort, partitions):
        pass
    return partitions


def _bounds(rows_of_user: Int64s, n_rows: int) -> Int64s:
    """Cut the users into ranges with about `n_rows` rows each."""
    ends = np.cumsum(rows_of_user)
    wanted = np.arange(n_rows, ends[-1], n_rows)
    return np.unique([0, *np.searchsorted(ends, wanted), len(ends)])


def _encoder(distinct: Distinct) -> Callable[[pl.Series], Int32s]:
    """The codes of values, -1 for null."""
    values = distinct.values
    vocabulary = Vocabulary(values, len(values) + FIRST_ID)
    if values.dtype != pl.Int64 or values.is_empty():
        return lambda column: vocabulary.encode(column) - np.int32(FIRST_ID)
    low, high = int(values[0]), int(values[-1])
    if high - low >= _SPARSE * len(values):
        return lambda column: vocabulary.encode(column) - np.int32(FIRST_ID)
    places = np.full(high - low + 1, -1, dtype=np.int32)
    places[values.to_numpy() - low] = np.arange(len(values), dtype=np.int32)

    def look_up(column: pl.Series) -> Int32s:
        if column.null_count():
            return vocabulary.encode(column) - np.int32(FIRST_ID)
        numbers = column.cast(pl.Int64).to_numpy()
        if numbers.min() < low or numbers.max() > high:
            return vocabulary.encode(column) - np.int32(FIRST_ID)
        codes: Int32s = places[numbers - low]
        return codes

    return look_up


def _numbers(column: pl.Series) -> Array:
    """The column as NumPy has it, with NaN for the nulls of a numeric field."""
    if column.name in ("timestamp", BELOW_SECOND, "label"):
        return column.to_numpy()
    return column.cast(pl.Float64).to_numpy()


def _distribute(
    columns: Columns, owner: npt.NDArray[np.unsignedinteger], parts: list[Partition]
) -> None:
    """Append each row to the partition that owns it."""
    counts = np.bincount(owner, minlength=len(parts))
    owners = np.flatnonzero(counts)
    if len(owners) == 1:
        parts[owners[0]].append(columns)
        return
    order = np.argsort(owner, kind="stable")  # of 8 or 16 bits: by radix
    moved = {name: column[order] for name, column in columns.items()}
    ends = np.cumsum(counts)
    for number in owners:
        rows = slice(ends[number] - counts[number], ends[number])
        parts[number].append({name: column[rows] for name, column in moved.items()})


def _time_order(
    user: Int32s, timestamp: Int64s, below_second: Int64s | None = None
) -> Int64s | None:
    """The stable order by (user, timestamp, below_second), None if the rows are in it."""
    if below_second is not None:
        return np.lexsort((below_second, timestamp, user))
    earliest, latest = int(timestamp.min()), int(timestamp.max())
    if latest - earliest >= 2**_KEY_BITS:
        return np.lexsort((timestamp, user))
    key = (user.astype(np.int64) << _KEY_BITS) + (timestamp - earliest)
    if (key[1:] >= key[:-1]).all():
        return None
    return np.argsort(key, kind="stable")
