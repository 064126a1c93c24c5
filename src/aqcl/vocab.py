"""Raw values to ids and back."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from aqcl.errors import DataError, StorageError
from aqcl.schema import FIRST_ID, UNKNOWN


def normalised(values: pl.Series) -> pl.Series:
    """The values as Int64 or String, the two types a vocabulary can hold.

    Raises:
        DataError: floating-point or nested values, which name nothing.
    """
    if values.dtype.is_integer():
        return values.cast(pl.Int64, strict=False)
    if values.dtype.is_float() or values.dtype.is_nested():
        raise DataError(
            f"column {values.name}: expected integers or text, got {values.dtype}; "
            "convert it or call it numeric"
        )
    return values.cast(pl.String)


@dataclass(frozen=True)
class Vocabulary:
    """Distinct raw values in the order of their ids, which start at `FIRST_ID`."""

    values: pl.Series
    """Int64 or String, no nulls."""
    size_known: int
    """Ids below it are known from training; `size` where only such values have ids."""

    @property
    def size(self) -> int:
        """Number of ids, padding and unknown included."""
        return len(self.values) + FIRST_ID

    def encode(self, values: pl.Series) -> npt.NDArray[np.int32]:
        """The ids of raw values; nulls and values it does not hold are `UNKNOWN`.

        Raises:
            DataError: values that are neither integers nor text.
        """
        names = normalised(values)
        # Text that is no number is null as an integer, and so unknown; so is 07, which is not 7.
        wanted = names.cast(self.values.dtype, strict=False)
        spelled = wanted.cast(names.dtype, strict=False) == names
        wanted = wanted.to_frame("value").select(pl.when(spelled).then("value"))["value"]
        found = wanted.to_frame().join(self._lookup, on="value", how="left", maintain_order="left")
        ids: npt.NDArray[np.int32] = found["id"].fill_null(UNKNOWN).to_numpy()
        return ids

    def decode(self, ids: npt.NDArray[np.integer]) -> pl.Series:
        """The raw values of ids; null for padding and unknown."""
        places = pl.Series(ids, dtype=pl.Int64) - FIRST_ID
        legal = (places >= 0) & (places < len(self.values))
        places = pl.select(pl.when(legal).then(places)).to_series()
        return self.values.gather(places)

    @cached_property
    def _lookup(self) -> pl.DataFrame:
        ids = pl.Series("id", np.arange(FIRST_ID, self.size, dtype=np.int32))
        return pl.DataFrame([self.values.alias("value"), ids])

    def write(self, path: Path) -> None:
        """Write the values as a one-column Parquet file."""
        self.values.alias("value").to_frame().write_parquet(path)

    @staticmethod
    def read(path: Path, size_known: int | None = None) -> "Vocabulary":
        """The inverse of `write`.

        Args:
            path: the Parquet file.
            size_known: see the field; all values are known without it.

        Raises:
            StorageError: the file cannot be read.
        """
        try:
            values = pl.read_parquet(path, columns=["value"])["value"]
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StorageError(f"{path}: cannot be read as a vocabulary: {error}") from None
        return Vocabulary(values, len(values) + FIRST_ID if size_known is None else size_known)


def fit(values: pl.Series, counts: npt.NDArray[np.int64], min_count: int) -> Vocabulary:
    """The vocabulary of the values that occur often enough.

    Args:
        values: raw values, repeated or not.
        counts: how often each row of `values` occurs in the training data.
        min_count: occurrences that a value needs in all.
    """
    frame = pl.DataFrame([normalised(values).alias("value"), pl.Series("count", counts)])
    kept = (
        frame.drop_nulls("value")
        .group_by("value")
        .agg(pl.col("count").sum())
        .filter(pl.col("count") >= min_count)["value"]
        .sort()
    )
    return Vocabulary(kept, len(kept) + FIRST_ID)
