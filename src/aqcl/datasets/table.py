"""Any log in CSV or Parquet files, its columns mapped by name."""

import dataclasses
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import AfterValidator

from aqcl import columns
from aqcl.click_log import BELOW_SECOND, ClickLog, TimeUnit
from aqcl.columns import SECONDS_PER_DAY, YEAR_5000, Column
from aqcl.config import settings
from aqcl.errors import ConfigError, DataError, command
from aqcl.log_files import LogFile, find_files, open_file, reading, with_same_types
from aqcl.schema import Field, Kind, Side
from aqcl.splits import utc_date

logger = logging.getLogger(__name__)

_ROW = "__row__"
_LABELS = ("label", "click", "clicked", "is_click", "is_clicked", "target", "y")
"""Names of columns that tell clicks from impressions nearly always."""
_RESERVED = ("user", "item", "timestamp", "label", _ROW, BELOW_SECOND)
_YEAR_1980 = 315_532_800
"""In seconds since 1970. No click log ends before it."""
_YEAR_2100 = 4_102_444_800
_IF_TOO_LATE = {
    "second": "if it is in milliseconds, use --set source.time_unit=millisecond",
    "millisecond": "if it is in a finer unit, divide the column where the file is made",
    "day": "if it is in seconds, use --set source.time_unit=second, or =millisecond",
}
"""What to do about integer times beyond the year 5000, by the unit they were taken for."""


@settings
class TableSettings:
    """Which files, and what their columns mean."""

    path: str | list[str]
    """One or more CSV (with a header) or Parquet files; `*` and `**` match names."""
    user: str = "user"
    """Column of user ids: integers or text."""
    item: str = "item"
    """Column of item ids: integers or text."""
    timestamp: str = "timestamp"
    """Column of times: integers, ISO dates and times, or a date type. No offset means UTC."""
    time_unit: Literal["second", "millisecond", "day"] = "second"
    """Unit of integer timestamps. A latest time beyond the year 5000 in this unit, or before 1980
    in milliseconds, is an error: it is in another."""
    label: str | None = None
    """Column of labels, 0 or 1; empty text says that every row is a click."""
    user_columns: dict[str, Kind] = dataclasses.field(default_factory=dict)
    """Columns that describe the user: name -> categorical, categories or numeric. A user has one
    value, the latest of the training rows."""
    item_columns: dict[str, Kind] = dataclasses.field(default_factory=dict)
    """Columns that describe the item, likewise."""
    context_columns: dict[str, Literal["categorical", "numeric"]] = dataclasses.field(
        default_factory=dict
    )
    """Columns that describe the impression, with one value a row, no list; also for what changes in
    time."""
    separator: str = "|"
    """Between the values of a `categories` column that is text."""
    delimiter: Annotated[str, AfterValidator(lambda text: "\t" if text == r"\t" else text)] = ","
    r"""Between the columns of a CSV file; `\t` is a tab."""
    quote: Literal['"', ""] = '"'
    """Around values of a CSV file that hold a delimiter, a line end or a quote, which is doubled
    there; empty text says that no value is quoted and a quote is a character as any other."""
    name: str | None = None
    """Name of the log; by default that of the first file."""


@dataclasses.dataclass(frozen=True)
class _Facts:
    n_rows: int
    first: int | None
    last: int | None
    integer_ids: frozenset[str]
    """Which of user and item are text that spells integers only."""
    has_fractions: bool
    """Whether a time lies between two seconds."""


def open_table(settings: TableSettings) -> ClickLog:
    """Map the columns of a log and check every row of them.

    Ids of CSV files are integers if every one of them is spelled as such.

    Raises:
        ConfigError: the columns are mapped in a way that cannot be.
        DataError: a file or a value that cannot be read; the message names file and row.
    """
    fields = _fields(settings)
    wanted = _named_by(settings, fields)
    paths = table_files(settings)
    files = with_same_types([_open_file(path, settings, wanted) for path in paths])
    spelled_as_integers = _times_are_integers(files, settings.timestamp)
    mapped = [_columns(file, settings, fields, spelled_as_integers) for file in files]
    facts = [_check_rows(file, cols) for file, cols in zip(files, mapped, strict=True)]
    if spelled_as_integers:
        for file, cols, found in zip(files, mapped, facts, strict=True):
            _check_unit(file, cols, found.last, settings.time_unit)
    frame = _typed_rows(files, mapped, frozenset.intersection(*(f.integer_ids for f in facts)))
    n_rows = sum(fact.n_rows for fact in facts)
    if n_rows == 0:
        raise DataError(f"{', '.join(str(path) for path in paths)}: no rows")
    logger.info("%d rows in %d files", n_rows, len(files))
    unit: TimeUnit = "second"
    if spelled_as_integers and settings.time_unit == "day":
        unit = "day"
    suited_split = partial(_split, unit)
    moments = [m for fact in facts for m in (fact.first, fact.last) if m is not None]
    has_fractions = any(fact.has_fractions for fact in facts)
    described = [field.name for field in fields if field.side != "context"]
    times = ["timestamp", BELOW_SECOND] if has_fractions else ["timestamp"]
    return ClickLog(
        name=settings.name or paths[0].name.split(".")[0],
        rows=frame.drop(described if has_fractions else [*described, BELOW_SECOND]),
        time_unit=unit,
        fields=fields,
        described=frame.select("user", "item", *times, *described) if described else None,
        protocol={"split": suited_split(min(moments), max(moments))},
        suited_split=suited_split,
    )


def table_files(settings: TableSettings) -> list[Path]:
    """The files that the patterns match now.

    Raises:
        DataError: a pattern that matches nothing, or a directory.
    """
    return find_files(settings.path)


def _fields(settings: TableSettings) -> tuple[Field, ...]:
    sides: tuple[tuple[Side, Mapping[str, Kind]], ...] = (
        ("user", settings.user_columns),
        ("item", settings.item_columns),
        ("context", settings.context_columns),
    )
    fields = tuple(Field(name, kind, side) for side, names in sides for name, kind in names.items())
    roles = _roles(settings)
    for position, field in enumerate(fields):
        where = f"source.{field.side}_columns.{field.name}"
        if field.name in _RESERVED:
            raise ConfigError(f"{where}: this name is taken; rename the column in the file")
        if field.name in roles:
            raise ConfigError(
                f"{where}: the column is already the log's user, item, timestamp or label; a label "
                "that a model sees is no label"
            )
        if field.name in (other.name for other in fields[:position]):
            raise ConfigError(f"{where}: the column is already given another side; keep one")
    for role in roles:
        if roles.count(role) > 1:
            raise ConfigError(
                f"source.user, item, timestamp and label must be different columns, "
                f"got '{role}' twice"
            )
    if len(settings.delimiter.encode()) != 1 or not settings.separator:
        raise ConfigError(
            f"source.delimiter must be one ASCII character and source.separator not empty, "
            f"got {settings.delimiter!r} and {settings.separator!r}"
        )
    return fields


def _roles(settings: TableSettings) -> list[str]:
    """The columns that every log has."""
    return [settings.user, settings.item, settings.timestamp, *filter(None, [settings.label])]


def _named_by(settings: TableSettings, fields: tuple[Field, ...]) -> dict[str, str]:
    """The columns to read, and how a user names another in the place of each."""
    roles = {"user": settings.user, "item": settings.item, "timestamp": settings.timestamp}
    roles |= {"label": settings.label} if settings.label else {}
    named = {field.name: f"correct source.{field.side}_columns" for field in fields}
    return {column: f"name it with --{role} COLUMN" for role, column in roles.items()} | named


def _open_file(path: Path, settings: TableSettings, wanted: Mapping[str, str]) -> LogFile:
    file = open_file(path, settings.delimiter, settings.quote)
    unused = [name for name in file.types.columns if name not in wanted]
    found = next((name for name in unused if name.lower() in _LABELS), None)
    if settings.label is None and found is not None:
        raise DataError(
            f"{path}: there is a column '{found}'; learn from it with "
            f"`{command('--label', found)}`, or give `--label ''` if every row is a click"
        )
    if unused:
        meaning = "" if settings.label else "; every row counts as a click"
        named = ", ".join(name or "one without a name" for name in unused)
        logger.info(
            "%s: columns not read: %s%s%s", path, named, meaning, _how_to_describe(settings)
        )
    return file.select(wanted)


def _how_to_describe(settings: TableSettings) -> str:
    """How a column becomes a field, for who has made none."""
    if settings.user_columns or settings.item_columns or settings.context_columns:
        return ""
    return (
        "; one that describes items becomes a field by --set source.item_columns.NAME=categorical "
        "(numeric, categories), of users by source.user_columns, of impressions by "
        "source.context_columns"
    )


def _times_are_integers(files: list[LogFile], column: str) -> bool:
    """Whether timestamps are integers; for text the first value tells."""
    for file in files:
        dtype = file.types.schema[column]
        if dtype != pl.String:
            return dtype.is_integer()
        with reading(file.path):
            first = file.frame.select(pl.col(column).drop_nulls().first()).collect().to_series()
        if first[0] is not None:
            return columns.as_ids(first).dtype == pl.Int64
    return False


def _columns(
    file: LogFile, settings: TableSettings, fields: tuple[Field, ...], spelled_as_integers: bool
) -> list[Column]:
    types = file.types
    time = settings.timestamp
    try:
        made = [
            columns.id_column("user", settings.user, types),
            columns.id_column("item", settings.item, types),
            columns.moment_column(time, types, settings.time_unit, spelled_as_integers),
        ]
        if settings.label:
            made.append(columns.label_column(settings.label, types))
        for field in fields:
            made.append(columns.field_column(field.name, types, field.kind, settings.separator))
    except DataError as error:
        raise DataError(f"{file.path}: {error}") from None
    return made


def _check_rows(file: LogFile, cols: list[Column]) -> _Facts:
    """Go through a file once, in a stream, and stop at its first bad value."""
    frame = file.frame.with_row_index(_ROW)
    ids = [c for c in cols if c.name in ("user", "item") and file.is_text]
    spelled = [columns.integers(pl.col(c.raw)).is_not_null().all().alias(c.name) for c in ids]
    moment = next(c for c in cols if c.name == "timestamp")
    time = moment.typed
    bad = [pl.col(_ROW).filter(c.bad).min().alias(f"bad {c.name}") for c in cols]
    bad += [c.bad.sum().alias(f"count {c.name}") for c in cols]
    ends = [time.min().alias("first"), time.max().alias("last"), pl.len().alias("n_rows")]
    ends.append((_below_second(moment) != 0).any().alias("fractions"))
    with reading(file.path):
        found = frame.select(*ends, *spelled, *bad).collect(engine="streaming").row(0, named=True)
        for column in cols:
            row = found[f"bad {column.name}"]
            if row is not None:
                at_row = frame.filter(pl.col(_ROW) == row).select(column.raw).collect()
                n_more = found[f"count {column.name}"] - 1
                raise DataError(_bad_value(file.path, row, column, at_row.item(), n_more))
    integer_ids = frozenset(c.name for c in ids if found[c.name])
    return _Facts(found["n_rows"], found["first"], found["last"], integer_ids, found["fractions"])


def _below_second(moment: Column) -> pl.Expr:
    below = pl.lit(0) if moment.below_second is None else moment.below_second
    return below.cast(pl.Int64).alias(BELOW_SECOND)


def _check_unit(file: LogFile, cols: list[Column], last: int | None, unit: str) -> None:
    """Refuse integer times that lie where no log does: they count something else."""
    if last is None:
        return
    if last >= (YEAR_5000 // SECONDS_PER_DAY if unit == "day" else YEAR_5000):
        # `last` is in seconds, or in days.
        still_late = unit == "second" and last // 1000 >= YEAR_5000
        where, advice = "beyond the year 5000", _IF_TOO_LATE["millisecond" if still_late else unit]
    elif unit == "millisecond" and last < _YEAR_1980:
        where, advice = "before 1980", "if it is in seconds, use --set source.time_unit=second"
    else:
        if unit == "second" and _YEAR_1980 <= last * SECONDS_PER_DAY < _YEAR_2100:
            # Seconds since the log's own beginning are as small.
            logger.warning(
                "%s: the latest time, %d, is a day of %s if it counts days: then use --set "
                "source.time_unit=day",
                *(file.path, last, utc_date(last, "day")[:4]),
            )
        return
    time = next(c for c in cols if c.name == "timestamp")
    with reading(file.path):
        latest = file.frame.filter(time.typed == last).select(time.raw).max().collect().item()
    raise DataError(
        f"{file.path}: column '{time.raw}': the latest time, {latest}, lies {where} in {unit}s; "
        f"{advice}, else correct or remove such rows"
    )


def _bad_value(path: Path, row: int, column: Column, value: Any, n_more: int) -> str:
    came = "nothing" if value is None else repr(value)
    which = f"this and {n_more:,} more such rows" if n_more else "the row"
    advice = f"correct or remove {which} (rows are counted from 1, after the header)"
    if column.name == "label" and value is not None:
        advice += "; of ratings or counts, make 0 and 1 by a threshold where the file is made"
    return (
        f"{path}: row {row + 1}, column '{column.raw}': expected {column.expected}, got {came}; "
        f"{advice}"
    )


def _typed_rows(
    files: list[LogFile], mapped: list[list[Column]], integer_ids: frozenset[str]
) -> pl.LazyFrame:
    frames = [
        file.frame.select(
            *(c.typed for c in cols), *(_below_second(c) for c in cols if c.name == "timestamp")
        )
        for file, cols in zip(files, mapped, strict=True)
    ]
    return pl.concat(frames).with_columns(pl.col(sorted(integer_ids)).cast(pl.Int64))


def _split(unit: TimeUnit, first: int, last: int) -> dict[str, Any]:
    """One cut in time for all, over the last fifth of the days; by user if there are too few."""
    day = 1 if unit == "day" else SECONDS_PER_DAY
    n_days = last // day - first // day + 1
    if n_days < 10:
        return {"kind": "last-interaction", "ties": "exclude"}
    return {"kind": "last-days", "days": 2 * round(n_days / 10), "ties": "exclude"}
