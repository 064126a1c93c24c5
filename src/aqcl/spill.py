"""Columns that are made and read some rows at a time, so that memory does not grow with the rows.

Short ones are arrays as any. Long ones lie in temporary files, mapped: the system may drop their
pages from memory whenever it needs it, and the files are gone with the arrays.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from aqcl.errors import StorageError

Column = npt.NDArray[Any]

CHUNK_ROWS = 2**18
"""Rows that are looked at together."""
MOST_PARTS: Final = 256
"""Parts that rows are divided into at most: a byte tells which one."""
KEPT_BYTES = 2**20
"""Up to which a column stays in memory."""
LASTING_PLACE: Final = Path("/var/tmp")
"""For temporary files where no TMPDIR says otherwise: /tmp is often a part of memory."""


class Spill:
    """A column that grows piece by piece."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._pieces: list[Column] = []
        self._file: IO[bytes] | None = None
        self._length = 0

    def append(self, piece: Column) -> None:
        """Put rows behind those that are there.

        Raises:
            StorageError: the directory of temporary files has no space left.
        """
        self._length += len(piece)
        self._pieces.append(np.ascontiguousarray(piece, self._dtype))
        if self._file is not None or self._length * self._dtype.itemsize > KEPT_BYTES:
            self._write()

    def array(self) -> Column:
        """All rows, to be read; nothing can be put behind them afterwards."""
        if self._file is None:
            return np.concatenate([np.empty(0, self._dtype), *self._pieces])
        with self._file:
            mapped = np.memmap(self._file, self._dtype, mode="r", shape=(self._length,))
        return np.asarray(mapped)

    def _write(self) -> None:
        place = _place()
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 - until `array`
            for piece in self._pieces:
                self._file.write(piece.data)
            self._file.flush()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StorageError(
                f"{place}: no space left for a temporary file of {self._length:,} rows: free some, "
                "or name another directory in TMPDIR"
            ) from None
        self._pieces.clear()


def _place() -> str:
    """The directory of temporary files."""
    if "TMPDIR" not in os.environ and os.access(LASTING_PLACE, os.W_OK):
        return str(LASTING_PLACE)
    return tempfile.gettempdir()


def chunks(n_rows: int) -> Iterator[slice]:
    """Runs of neighbouring rows, the first ones first."""
    for start in range(0, n_rows, CHUNK_ROWS):
        yield slice(start, min(start + CHUNK_ROWS, n_rows))


def made(dtype: npt.DTypeLike, n_rows: int, of: Callable[[slice], Column]) -> Column:
    """A column of what `of` gives for each chunk."""
    column = Spill(dtype)
    for chunk in chunks(n_rows):
        column.append(of(chunk))
    return column.array()


def failures(n_rows: int, holds: Callable[[slice], Column]) -> tuple[int, int]:
    """Of how many rows something does not hold, and the first one; rows of a chunk are given."""
    count, first = 0, -1
    for chunk in chunks(n_rows):
        wrong = np.flatnonzero(~np.asarray(holds(chunk)))
        if len(wrong) and not count:
            first = chunk.start + int(wrong[0])
        count += len(wrong)
    return count, first


def parts_needed(n_rows: int) -> int:
    """Parts that hold about as many rows as a chunk, but no more than there may be."""
    return min(-(-n_rows // CHUNK_ROWS), MOST_PARTS)


def partition(
    n_rows: int, n_parts: int, part_of: Callable[[slice], Column], dtype: npt.DTypeLike
) -> Iterator[Column]:
    """The numbers of the rows in each part, ascending, one part after the other.

    Args:
        n_rows: all of them.
        n_parts: how many parts, at most `MOST_PARTS`.
        part_of: the part of each row of a chunk, from 0.
        dtype: of the row numbers.
    """
    parts = made(np.uint8, n_rows, part_of)
    for part in range(n_parts):
        numbers = [
            (np.flatnonzero(parts[chunk] == part) + chunk.start).astype(dtype)
            for chunk in chunks(n_rows)
        ]
        yield np.concatenate([np.empty(0, dtype), *numbers])
