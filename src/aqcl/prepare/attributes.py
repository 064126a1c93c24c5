"""Columns that describe users and items: raw values to ids and numbers."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from aqcl.click_log import BELOW_SECOND
from aqcl.errors import DataError
from aqcl.prepare.census import BATCH_ROWS, batches
from aqcl.prepare.sorted_log import Entities
from aqcl.schema import FIRST_ID, PADDING, UNKNOWN, Field, Side
from aqcl.vocab import Vocabulary, fit

Int64s = npt.NDArray[np.int64]
Table = npt.NDArray[Any]

TIMES = ("timestamp", BELOW_SECOND)
"""What orders rows, before their place in the file; the latter only in some logs."""
_ROUNDING, _RESOLUTION = 1e-9, 2.0**-23
"""Of a mean: a standard deviation below the one is none, below the other 32 bits are too few."""


@dataclass(frozen=True)
class EncodedField:
    """A field with its size or scale, and its values as a model reads them."""

    field: Field
    table: Table
    """int32 (N, M) ids padded with 0, or float32 (N,)."""
    vocabulary: Vocabulary | None
    told: bool = True
    """Whether training rows tell several values; from one, if it is a number, nothing is learnt."""


def encode_field(
    field: Field, table: pl.DataFrame | None, entities: Entities, log: str, min_count: int
) -> EncodedField:
    """Encode one field of users or items; its vocabulary or mean come from training rows only.

    Args:
        field: as the source declares it.
        table: of the users or items.
        entities: the same, numbered.
        log: its name.
        min_count: training rows that a value needs for an id of its own.

    Raises:
        DataError: no such column, or values that do not fit the kind of the field.
    """
    if table is None or not {field.side, field.name} <= set(table.columns):
        raise DataError(
            f"log {log}, field {field.name}: the table of {field.side}s has no such column"
        )
    values = _aligned(table, field, entities.vocabulary)
    return encode_column(field, values, entities.train_rows[FIRST_ID:], min_count)


@dataclass(frozen=True)
class TrainingValues:
    """What the rows of a log say of a column of its users or items."""

    table: pl.DataFrame | None
    """The entity and its value, where it has one; None where the log tells nothing."""
    varying: int = 0
    """Entities with training rows whose value is not the same in all of them."""


def training_values(
    rows: pl.LazyFrame, side: Side, name: str, held_out_from: pl.DataFrame, trained: pl.Series
) -> TrainingValues:
    """Each entity's latest known value among training rows; a new entity's earliest known one.

    Rows of a user's first held-out moment count as held out; file order breaks other ties. An
    entity with training rows has no value of held-out rows: its training rows would see it.

    Args:
        rows: see `ClickLog.described`.
        side: whose values.
        name: the column.
        held_out_from: columns `user` and `held_out_from`, the first timestamp of the user's rows
            that do not train; a user who is not there has none that do.
        trained: the entities that have training rows; all others are new.
    """
    row, time, trains = pl.col("row").cast(pl.Int64), pl.col("timestamp"), pl.col("trains")
    times = [key for key in TIMES if key in rows.collect_schema()]
    keys = [*map(pl.col, times), row]
    known = (
        rows.select("user", pl.col(side).alias("entity"), *times, pl.col(name).alias("value"))
        .with_row_index("row")
        .drop_nulls("value")
        .join(held_out_from.lazy(), on="user", how="left")
        .with_columns((time < pl.col("held_out_from")).fill_null(False).alias("trains"))
        .filter(trains | ~pl.col("entity").is_in(trained.implode()))
        # Held-out rows count backwards in time, so that the largest is the earliest.
        .with_columns(pl.when(trains).then(key).otherwise(-1 - key) for key in keys)
        .with_columns(lowest=pl.col("value").hash(), highest=pl.col("value").hash())
        .select("entity", "value", "trains", *times, "row", "lowest", "highest")
    )
    found, n_latest = [_latest_of_each(known.head(0).collect())], 0
    for batch in batches(known):
        found.append(_latest_of_each(batch))
        if sum(map(len, found)) > 2 * max(n_latest, BATCH_ROWS):
            found = [_latest_of_each(pl.concat(found))]
            n_latest = len(found[0])
    latest = _latest_of_each(pl.concat(found))
    varies = latest["trains"] & (latest["lowest"] != latest["highest"])
    values = latest.select(pl.col("entity").alias(side), pl.col("value").alias(name))
    return TrainingValues(values, int(varies.sum()))


def _latest_of_each(rows: pl.DataFrame) -> pl.DataFrame:
    """The row of each entity that decides its value, with the ends of the hashes of all."""
    ascending = rows.sort("trains", *(key for key in TIMES if key in rows.columns), "row")
    ends = rows.group_by("entity").agg(pl.col("lowest").min(), pl.col("highest").max())
    latest = ascending.unique("entity", keep="last", maintain_order=True)
    joined = latest.drop("lowest", "highest").join(
        ends, on="entity", how="left", maintain_order="left"
    )
    return joined.select(rows.columns)


def _aligned(table: pl.DataFrame, field: Field, vocabulary: Vocabulary) -> pl.Series:
    """The column of an entity table in the order of the entity ids, null where it has none."""
    entities = vocabulary.values.alias(field.side).to_frame()
    if table[field.side].dtype != entities[field.side].dtype:
        raise DataError(
            f"table of {field.side}s, column {field.side}: expected "
            f"{entities[field.side].dtype} as in the rows, got {table[field.side].dtype}"
        )
    if table[field.side].is_duplicated().any():
        twice = table[field.side].filter(table[field.side].is_duplicated())[0]
        raise DataError(
            f"table of {field.side}s, column {field.side}: {twice!r} stands in more than one "
            "row; keep one"
        )
    columns = table.select(field.side, field.name)
    return entities.join(columns, on=field.side, how="left", maintain_order="left")[field.name]


def encode_column(field: Field, values: pl.Series, counts: Int64s, min_count: int) -> EncodedField:
    """Encode one column; its vocabulary, mean and deviation come from training rows only.

    Args:
        field: as the source declares it.
        values: raw values, null where unknown.
        counts: training rows that each value stands for.
        min_count: training rows that a value needs for an id of its own.

    Raises:
        DataError: values that do not fit the kind of the field.
    """
    encode = {"categorical": _categorical, "categories": _categories, "numeric": _numeric}
    return encode[field.kind](field, values.alias(field.name), counts, min_count)


def entity_table(encoded: EncodedField) -> Table:
    """The table with rows for padding and unknown in front, so that entity ids index it."""
    table = encoded.table
    head = np.zeros((FIRST_ID, *table.shape[1:]), dtype=table.dtype)
    if encoded.vocabulary is None:
        head[:] = encoded.field.mean
    else:
        head[UNKNOWN, 0] = UNKNOWN
    return np.concatenate([head, table])


def check_range(numbers: npt.NDArray[np.float64], column: str) -> None:
    """Check that numbers can be stored.

    Raises:
        DataError: one does not fit 32 bits.
    """
    too_large = np.abs(numbers) > float(np.finfo(np.float32).max)
    if too_large.any():
        raise DataError(
            f"column {column}: {numbers[too_large][0]} does not fit a 32-bit float; "
            "rescale the column or leave it out with fields"
        )


def checked_spread(mean: float, std: float, column: str) -> float:
    """A standard deviation to divide by: 0 where all training values are equal.

    Of equal ones rounding may leave a tiny one, by which a later value would be far off.

    Raises:
        DataError: the values differ by less than 32 bits tell apart.
    """
    size = abs(mean)
    if std <= size * _ROUNDING:
        return 0.0
    if std < size * _RESOLUTION:
        raise DataError(
            f"column {column}: values are {mean:.10g} on average and differ by {std:.3g}, which a "
            "32-bit float does not hold; subtract what they have in common"
        )
    return std


def _categorical(field: Field, values: pl.Series, counts: Int64s, min_count: int) -> EncodedField:
    vocabulary = fit(values, counts, min_count)
    ids = vocabulary.encode(values)[:, None]
    return EncodedField(dataclasses.replace(field, size=vocabulary.size), ids, vocabulary)


def _categories(field: Field, values: pl.Series, counts: Int64s, min_count: int) -> EncodedField:
    """A list of distinct ids per row; a row without values holds `UNKNOWN` alone."""
    if not isinstance(values.dtype, pl.List):
        raise DataError(f"column {field.name}: expected lists of text, got {values.dtype}")
    flat = (
        pl.DataFrame([values.alias("value"), pl.Series("count", counts)])
        .with_row_index("row")
        .explode("value")
        .drop_nulls("value")
        .unique(["row", "value"], maintain_order=True)
    )
    vocabulary = fit(flat["value"].alias(field.name), flat["count"].to_numpy(), min_count)
    places = (
        pl.DataFrame([flat["row"], pl.Series("id", vocabulary.encode(flat["value"]))])
        .unique(["row", "id"], maintain_order=True)
        .with_columns(column=pl.int_range(pl.len()).over("row"))
    )
    width = int(places["column"].max() or 0) + 1  # type: ignore[arg-type]
    table = np.full((len(values), width), PADDING, dtype=np.int32)
    table[:, 0] = UNKNOWN
    table[places["row"].to_numpy(), places["column"].to_numpy()] = places["id"].to_numpy()
    return EncodedField(dataclasses.replace(field, size=vocabulary.size), table, vocabulary)


def _numeric(field: Field, values: pl.Series, counts: Int64s, min_count: int) -> EncodedField:
    """Unknown values take the training mean; `min_count` has no meaning here."""
    if not values.dtype.is_numeric():
        raise DataError(f"column {field.name}: expected numbers, got {values.dtype}")
    numbers = values.cast(pl.Float64).to_numpy()
    check_range(numbers, field.name)
    known = ~np.isnan(numbers) & (counts > 0)
    mean, std = 0.0, 0.0
    if known.any():
        mean = float(np.average(numbers[known], weights=counts[known]))
        std = float(np.sqrt(np.average((numbers[known] - mean) ** 2, weights=counts[known])))
    std = checked_spread(mean, std, field.name)
    scaled = dataclasses.replace(field, mean=mean, std=std or 1.0)
    return EncodedField(scaled, filled(numbers, mean, std), None, told=std > 0)


def filled(numbers: npt.NDArray[np.float64], mean: float, std: float) -> npt.NDArray[np.float32]:
    """Numbers with the training mean for those that are unknown.

    Where training values do not differ, `std` 0, it stands for all: a weight that no training row
    has moved would otherwise meet later values as it was drawn.
    """
    unknown = np.isnan(numbers) if std else np.ones(len(numbers), dtype=np.bool_)
    return np.where(unknown, mean, numbers).astype(np.float32)
