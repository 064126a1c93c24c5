"""Columns that describe the impression: a value a row, encoded block by block."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aqcl.prepare.attributes import check_range, checked_spread, filled
from aqcl.prepare.census import Census
from aqcl.prepare.sorted_log import Numbering
from aqcl.schema import FIRST_ID, UNKNOWN, Field
from aqcl.splits import TRAIN
from aqcl.vocab import Vocabulary

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_PIECE = 2**20
"""Numbers that are summed in memory at once; NumPy sums pieces of a power of two alike."""
_FLOAT_BYTES = 8


@dataclass(frozen=True)
class ContextField:
    """A context field with its size or scale, and how its values become a model's."""

    field: Field
    vocabulary: Vocabulary | None
    encode: Callable[[Array], Array]
    """Codes or numbers of a `SortedLog` as int32 ids or float32 numbers."""
    told: bool = True
    """As of an `EncodedField`."""


def encode_context(
    field: Field, census: Census, numbering: Numbering, min_count: int, folder: Path
) -> ContextField:
    """Fit one field on training rows.

    Args:
        field: as the source declares it.
        census: the distinct values.
        numbering: the rows.
        min_count: training rows that a value needs for an id of its own.
        folder: for a file of numbers, which is removed.

    Raises:
        DataError: numbers that cannot be stored.
    """
    if field.kind == "numeric":
        return _numeric(field, numbering, folder / "numbers")
    values = census.columns[field.name].values
    known = numbering.context_rows[field.name] >= min_count
    # -1, the code of null, is the last place.
    ids = np.full(len(values) + 1, UNKNOWN, dtype=np.int32)
    ids[:-1][known] = np.arange(FIRST_ID, known.sum() + FIRST_ID)
    vocabulary = Vocabulary(values.filter(known).alias("value"), int(known.sum()) + FIRST_ID)
    return ContextField(
        dataclasses.replace(field, size=vocabulary.size), vocabulary, lambda codes: ids[codes]
    )


def _numeric(field: Field, numbering: Numbering, path: Path) -> ContextField:
    """Unknown values take the training mean."""
    with path.open("wb") as file:
        for block in numbering.blocks:
            log = numbering.read(block)
            numbers = log.context[field.name]
            check_range(numbers, field.name)
            file.write(numbers[(log.part == TRAIN) & ~np.isnan(numbers)].data)
    n_numbers = path.stat().st_size // _FLOAT_BYTES
    mean, std = 0.0, 0.0
    if n_numbers:
        mean = sum_of_file(path, lambda piece: piece) / n_numbers
        std = float(np.sqrt(sum_of_file(path, lambda piece: (piece - mean) ** 2) / n_numbers))
    path.unlink()
    std = checked_spread(mean, std, field.name)
    return ContextField(
        dataclasses.replace(field, mean=mean, std=std or 1.0),
        None,
        lambda numbers: filled(numbers, mean, std),
        told=std > 0,
    )


def sum_of_file(path: Path, of: Callable[[Floats], Floats], piece: int = _PIECE) -> float:
    """The sum of a file of float64, rounded as `numpy.sum` of all of them rounds it.

    NumPy adds pairwise: it halves an array, at a multiple of 8, until 128 numbers are left. So
    does this, but from `piece` numbers on NumPy does it.

    Args:
        path: the numbers, without a header.
        of: what to sum of a piece, number by number.
        piece: the most numbers to read at once, 128 or more.
    """

    def add(start: int, count: int) -> float:
        if count <= piece:
            numbers = np.fromfile(path, np.float64, count, offset=start * _FLOAT_BYTES)
            return float(of(numbers).sum())
        half = count // 2
        half -= half % 8
        return add(start, half) + add(start + half, count - half)

    return add(0, path.stat().st_size // _FLOAT_BYTES)
