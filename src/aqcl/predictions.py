"""Scores of the rows of a split: everything that evaluation needs."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from aqcl.errors import DataError, StorageError
from aqcl.spill import Column, failures, made
from aqcl.storage import atomic_stream

_DTYPES = {
    "user": np.int64,
    "item": np.int64,
    "label": np.int8,
    "activity": np.int64,
    "score": np.float64,
}
ROW_COLUMNS = tuple(name for name in _DTYPES if name != "score")
"""The columns that say which row it is; they are the same for every run on a split."""

_IS_PROBABILITY = "aqcl.is_probability"
_PIECE_ROWS = 262_144

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Predictions:
    """The N rows of a split with a score each; columns (N,) are checked and converted when made.

    Raises:
        DataError: columns of different lengths, a label that is not 0 or 1, a negative
            activity, or a score that is not finite or not in [0, 1].
    """

    user: Column
    """Entity ids, integers."""
    item: Column
    """Entity ids, integers."""
    label: Column
    """0 or 1, int8."""
    activity: Column
    """Clicks of the user strictly before the row, never truncated, integers."""
    score: Column
    """Click probability, float64."""
    is_probability: bool = True
    """False where the score only ranks, so that logloss and calibration mean nothing."""

    def __post_init__(self) -> None:
        self._check_lengths()
        _check("label", self.label, "0 or 1", lambda label: np.isin(label, (0, 1)))
        _check("activity", self.activity, "0 or more", lambda activity: activity >= 0)
        # a NaN fails both comparisons
        _check("score", self.score, "a finite number in [0, 1]", lambda s: (s >= 0) & (s <= 1))
        for name, dtype in _DTYPES.items():
            column = np.asarray(getattr(self, name))
            if dtype == np.int64 and column.dtype.kind != "i":
                _check(name, column, "whole numbers of 64 bits", _are_whole)
            # Those of a dataset are shorter, and mapped: they take no memory as they are.
            kept = dtype == np.int64 and column.dtype.kind == "i"
            column = np.ascontiguousarray(column, dtype=None if kept else dtype)
            object.__setattr__(self, name, column)

    def _check_lengths(self) -> None:
        shapes = {name: np.shape(getattr(self, name)) for name in _DTYPES}
        if len(set(shapes.values())) > 1 or len(shapes["user"]) != 1:
            found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise DataError(
                f"predictions: expected columns of one length, got {found}; "
                "give one value per row in each"
            )

    def __len__(self) -> int:
        return len(self.label)

    def sharing(self, other: "Predictions") -> "Predictions":
        """The same predictions without a copy of their own of the columns that `other` has too."""
        columns = {name: (getattr(self, name), getattr(other, name)) for name in ROW_COLUMNS}
        return replace(
            self,
            **{name: b for name, (a, b) in columns.items() if np.array_equal(a, b)},
        )

    def write(self, path: Path) -> None:
        """Write the columns as a Parquet file, whole or not at all.

        Raises:
            StorageError: there is no space for it.
        """
        rows = register_io_source(self._pieces, schema=pl.DataFrame(self._piece(0)).schema)
        metadata = {_IS_PROBABILITY: str(self.is_probability).lower()}
        try:
            with atomic_stream(path) as stream:
                rows.sink_parquet(stream, row_group_size=_PIECE_ROWS, metadata=metadata)
        except pl.exceptions.PolarsError as error:
            raise StorageError(f"{path}: could not be written: {error}") from None
        _log.debug("wrote %d predictions to %s", len(self), path)

    def _pieces(self, *_: object) -> Iterator[pl.DataFrame]:
        """Some rows after the others, so that no column is copied as a whole."""
        for start in range(0, len(self), _PIECE_ROWS):
            yield pl.DataFrame(self._piece(start))

    def _piece(self, start: int) -> dict[str, Column]:
        rows = slice(start, start + _PIECE_ROWS)
        return {name: getattr(self, name)[rows].astype(d) for name, d in _DTYPES.items()}


def read_predictions(path: Path) -> Predictions:
    """Read what `Predictions.write` wrote.

    Raises:
        StorageError: the file is missing, damaged or does not hold predictions.
    """
    if not path.is_file():
        raise StorageError(f"{path}: no such file; write the predictions of this split first")
    try:
        found = pl.read_parquet_schema(path)
        metadata = pl.read_parquet_metadata(path)
        missing = [name for name in _DTYPES if name not in found]
        if missing:
            raise StorageError(
                f"{path}: expected columns {', '.join(_DTYPES)}, got {', '.join(found)}: "
                f"{', '.join(missing)} missing; give a file of predictions"
            )
        n_rows: int = pl.scan_parquet(path).select(pl.len()).collect().item()
        columns = {name: _read_column(path, name, n_rows) for name in _DTYPES}
    except (pl.exceptions.PolarsError, OSError) as error:
        raise StorageError(f"{path}: not a readable Parquet file: {error}; make it again") from None
    try:
        return Predictions(**columns, is_probability=metadata.get(_IS_PROBABILITY) != "false")
    except DataError as error:
        raise StorageError(f"{path}: {error}") from None


def _read_column(path: Path, name: str, n_rows: int) -> Column:
    rows = pl.scan_parquet(path).select(name)
    kind = rows.collect_schema()[name]
    nulls: int = rows.select(pl.col(name).null_count()).collect().item()
    if not kind.is_numeric() or nulls:
        raise StorageError(
            f"{path}: column {name}: expected numbers without nulls, got {kind} with {nulls} "
            "nulls; make the file again"
        )

    def read(chunk: slice) -> Column:
        piece = rows.slice(chunk.start, chunk.stop - chunk.start).collect()
        return piece[name].to_numpy()

    return made(pl.Series(dtype=kind).to_numpy().dtype, n_rows, read)


def _are_whole(column: Column) -> Column:
    """Which values are whole numbers that 64 bits hold, where the column is not of such anyway."""
    if column.dtype.kind == "u":
        return np.asarray(column <= np.iinfo(np.int64).max)
    if column.dtype.kind == "f":
        return np.asarray((np.floor(column) == column) & (np.abs(column) < 2.0**63))
    return np.zeros(column.shape, dtype=bool)


def _check(name: str, values: Column, expected: str, allow: Callable[[Column], Column]) -> None:
    column = np.asarray(values)
    count, row = failures(len(column), lambda chunk: allow(column[chunk]))
    if count:
        raise DataError(
            f"predictions: column {name}, row {row}: expected {expected}, got {column[row]}; "
            f"{count} of {len(column)} rows are wrong"
        )
