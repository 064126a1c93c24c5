"""Raw columns as typed ones, each with the rule that tells a bad value from a good one."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from aqcl.errors import DataError
from aqcl.schema import Kind

SECONDS_PER_DAY = 86_400
YEAR_5000 = 95_617_584_000
"""In seconds since 1970. No click log ends after it, so that a later time is of another unit."""
_CANONICAL_INTEGER = r"^(0|-?[1-9][0-9]*)$"
_LARGEST_NUMBER = float(np.finfo(np.float32).max)
_ROUND_THE_CLOCK = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
_FULL_YEAR = r"^\d{4}-"
_HOURS_ALONE = r"(:\d\d(?:\.\d+)?[+-]\d\d)$"
"""The end of a time whose offset has no minutes, as PostgreSQL writes it."""


@dataclass(frozen=True)
class Column:
    """One column of a click log, made from one column of a file."""

    name: str
    """In the click log."""
    raw: str
    """In the file."""
    typed: pl.Expr
    """Null where the raw value is missing or bad."""
    bad: pl.Expr
    """True where the raw value cannot be taken."""
    expected: str
    """What a good value is, for a message."""
    below_second: pl.Expr | None = None
    """Of a moment: what is cut off, as an integer; it orders the moments of one second."""


def _column(name: str, raw: str, typed: pl.Expr, expected: str, required: bool) -> Column:
    bad = typed.is_null() if required else typed.is_null() & pl.col(raw).is_not_null()
    return Column(name, raw, typed.alias(name), bad, expected)


def text(raw: str) -> pl.Expr:
    """A column of strings with null for the empty one."""
    return pl.col(raw).replace("", None)


def integers(spelled: pl.Expr) -> pl.Expr:
    """Strings as Int64; null unless the integer would be spelled the same, as 12 but not 012."""
    whole = spelled.str.contains(_CANONICAL_INTEGER)
    return pl.when(whole).then(spelled.cast(pl.Int64, strict=False))


def as_ids(raw: pl.Series) -> pl.Series:
    """Ids as Int64 if every string spells one, else as they are."""
    numbers = raw.to_frame("id").select(integers(pl.col("id"))).to_series()
    return raw if numbers.has_nulls() else numbers.alias(raw.name)


def id_column(name: str, raw: str, types: pl.DataFrame) -> Column:
    """Users or items: text or integers, never numbers with a fraction.

    Raises:
        DataError: the column is of another type.
    """
    dtype = types.schema[raw]
    if dtype.is_integer():
        typed = pl.col(raw).cast(pl.Int64, strict=False)
        return _column(name, raw, typed, "an integer below 2^63", required=True)
    if dtype == pl.String:
        return _column(name, raw, text(raw), "an id", required=True)
    raise DataError(
        f"column '{raw}' has type {dtype}, but a {name} id must be an integer or text; "
        "cast the column where the file is made"
    )


def moment_column(raw: str, types: pl.DataFrame, unit: str, spelled_as_integers: bool) -> Column:
    """Timestamps, in days if integers are days, else in seconds since 1970 (UTC).

    Args:
        raw: the file's column.
        types: a frame without rows that has the columns of the file.
        unit: of integers: `second`, `millisecond` or `day`.
        spelled_as_integers: whether text holds integers rather than ISO dates and times.

    Raises:
        DataError: the column is of another type.
    """
    dtype = types.schema[raw]
    if dtype.is_integer() or (dtype == pl.String and spelled_as_integers):
        numbers = integers(pl.col(raw)) if dtype == pl.String else pl.col(raw)
        typed, what = numbers.cast(pl.Int64, strict=False), f"an integer ({unit})"
        if unit == "millisecond":
            return _moment(raw, typed, 1000, what)
        return _column("timestamp", raw, typed, what, required=True)
    if dtype == pl.String:
        what = (
            "an ISO date or time such as 2021-05-31 or 2021-05-31T18:30:00Z, or, in every row, an "
            "integer such as 1622485800 and not 1622485800.0"
        )
        return _moment(raw, _iso_microseconds(pl.col(raw)), 1_000_000, what)
    if dtype == pl.Date:
        typed = pl.col(raw).cast(pl.Int64) * SECONDS_PER_DAY
        return _column("timestamp", raw, typed, "a date", required=True)
    if isinstance(dtype, pl.Datetime):
        return _moment(raw, pl.col(raw).dt.epoch("us"), 1_000_000, "a time")
    raise DataError(
        f"column '{raw}' has type {dtype}, but a timestamp must be an integer, an ISO date or "
        "time, or of a date type; cast the column where the file is made"
    )


def _moment(raw: str, moment: pl.Expr, per_second: int, expected: str) -> Column:
    """Moments finer than a second, cut to seconds."""
    seconds = moment.floordiv(per_second)
    column = _column("timestamp", raw, seconds, expected, required=True)
    return replace(column, below_second=moment - seconds * per_second)


def _iso_microseconds(spelled: pl.Expr) -> pl.Expr:
    """ISO dates, and times with or without an offset (then UTC), since 1970."""
    full_year = pl.when(spelled.str.contains(_FULL_YEAR)).then(spelled)  # 21 is no year to guess
    plain = full_year.str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
    plain = plain.str.replace(_HOURS_ALONE, "$1:00")
    moments = [plain.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))]
    for clock in _ROUND_THE_CLOCK:
        moments.append(plain.str.to_datetime(clock, strict=False, time_unit="us"))
        with_offset = f"{clock}%:z"
        moments.append(
            plain.str.to_datetime(with_offset, strict=False, time_unit="us", time_zone="UTC")
        )
    return pl.coalesce([moment.dt.epoch("us") for moment in moments])


def label_column(raw: str, types: pl.DataFrame) -> Column:
    """Labels: 0 and 1 or false and true.

    Raises:
        DataError: the column is of another type.
    """
    dtype = types.schema[raw]
    spelling = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
    if dtype == pl.String:
        lower = pl.col(raw).str.to_lowercase()
        typed = lower.replace_strict(spelling, default=None, return_dtype=pl.Int8)
    elif dtype.is_numeric() or dtype == pl.Boolean:
        number = pl.col(raw).cast(pl.Float64)
        typed = pl.when(number.is_in([0.0, 1.0])).then(number).cast(pl.Int8)
    else:
        raise DataError(f"column '{raw}' has type {dtype}, but a label must be 0 or 1")
    return _column("label", raw, typed, "0 or 1", required=True)


def field_column(raw: str, types: pl.DataFrame, kind: Kind, separator: str) -> Column:
    """A column beside user, item, timestamp and label, which may have missing values.

    Args:
        raw: the file's column, and the field's name.
        types: a frame without rows that has the columns of the file.
        kind: of the field.
        separator: between the categories of a string.

    Raises:
        DataError: the column's type does not suit the kind.
    """
    typed, expected = _FIELD_TYPES[kind](raw, types, separator)
    if typed is None:
        raise DataError(
            f"column '{raw}' has type {types.schema[raw]}, but a {kind} field must be {expected}"
        )
    column = _column(raw, raw, typed, expected, required=False)
    if types.schema[raw] == pl.String:  # an empty text is no value, as in a CSV file
        column = replace(column, bad=column.bad & (pl.col(raw) != ""))
    if kind == "categorical" and types.schema[raw].is_float():
        return replace(column, bad=column.bad & pl.col(raw).is_not_nan())
    if kind != "numeric":
        return column
    missing = pl.col(raw).is_null() | typed.is_nan().fill_null(False)
    if types.schema[raw] == pl.String:
        missing |= pl.col(raw) == ""
    finite = (typed.abs() <= _LARGEST_NUMBER).fill_null(False)
    return Column(raw, raw, typed.fill_nan(None).alias(raw), ~missing & ~finite, expected)


def _categorical(raw: str, types: pl.DataFrame, _separator: str) -> tuple[pl.Expr | None, str]:
    dtype = types.schema[raw]
    if dtype == pl.String:
        return pl.when(text(raw).is_not_null()).then(pl.col(raw)), "text"
    value = pl.col(raw).fill_nan(None) if dtype.is_float() else pl.col(raw)
    plain = not dtype.is_nested() and dtype != pl.Duration
    return (value.cast(pl.String) if plain else None), "a plain value"


def _categories(raw: str, types: pl.DataFrame, separator: str) -> tuple[pl.Expr | None, str]:
    dtype = types.schema[raw]
    expected = f"a list, or text separated by '{separator}'"
    if dtype == pl.String:
        parts = pl.col(raw).str.split(separator)
    elif isinstance(dtype, pl.List) and not dtype.inner.is_nested():
        parts = pl.col(raw).cast(pl.List(pl.String))
    else:
        return None, expected
    return parts.list.eval(pl.element().filter(pl.element() != "")), expected


def _numeric(raw: str, types: pl.DataFrame, _separator: str) -> tuple[pl.Expr | None, str]:
    dtype = types.schema[raw]
    takes = dtype.is_numeric() or dtype in (pl.Boolean, pl.String)
    return (
        pl.col(raw).cast(pl.Float64, strict=False) if takes else None
    ), "a finite number that fits 32 bits"


_FIELD_TYPES: dict[Kind, Callable[[str, pl.DataFrame, str], tuple[pl.Expr | None, str]]] = {
    "categorical": _categorical,
    "categories": _categories,
    "numeric": _numeric,
}
