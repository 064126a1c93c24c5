"""Sequence files: a line for each user, `user item item ...`, in the order of time."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from aqcl.click_log import ClickLog
from aqcl.columns import as_ids
from aqcl.config import settings
from aqcl.errors import DataError
from aqcl.schema import Field

ATTRIBUTES = "attributes"


@settings
class SequencesSettings:
    """Which sequences, and what is known of the items."""

    path: str
    """Text file: a line for each user, ids separated by blanks, the user first."""
    attributes: str | None = None
    """JSON file: an object of item -> list of attributes."""
    name: str | None = None
    """Name of the log; by default that of the file."""


def open_sequences(settings: SequencesSettings) -> ClickLog:
    """Read sequences as clicks whose timestamp is the position in the sequence, from 0.

    Users are integers if every line's first word spells one, and so are items.

    Raises:
        DataError: a file that cannot be read, a user without items or on two lines.
    """
    path, *attributes = sequences_files(settings)
    rows = _read_rows(path)
    items = _read_attributes(attributes[0], rows["item"]) if attributes else None
    return ClickLog(
        name=settings.name or path.stem,
        rows=rows.lazy(),
        time_unit="position",
        fields=() if items is None else (Field(ATTRIBUTES, "categories", "item"),),
        items=items,
        protocol={
            "split": {"kind": "last-interaction", "ties": "order"},
            "negatives": {"beta": 0.0},
        },
    )


def sequences_files(settings: SequencesSettings) -> list[Path]:
    """The sequences, and the attributes if there are any."""
    names = filter(None, [settings.path, settings.attributes])
    return [Path(name).expanduser() for name in names]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # a byte order mark is no part of an id
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a UTF-8 text file: {error}") from error


def _read_rows(path: Path) -> pl.DataFrame:
    lines = pl.DataFrame({"line": _read_text(path).split("\n")}).with_row_index("number", offset=1)
    lines = lines.with_columns(words=pl.col("line").str.extract_all(r"\S+"))
    lines = lines.filter(pl.col("words").list.len() > 0).with_columns(
        user=pl.col("words").list.first()
    )
    if lines.is_empty():
        raise DataError(f"{path}: the file is empty; expected lines of `user item item ...`")
    alone = lines.filter(pl.col("words").list.len() == 1)
    if len(alone):
        number, user = alone.select("number", "user").row(0)
        raise DataError(f"{path}: line {number}: user '{user}' has no items; remove the line")
    repeated = lines.filter(pl.col("user").is_duplicated()).select("number", "user")
    if len(repeated):
        number, user = repeated.row(0)
        other = repeated.filter(pl.col("user") == user)["number"][1]
        raise DataError(f"{path}: user '{user}' is on lines {number} and {other}; join them")
    items = pl.col("words").list.slice(1)
    rows = lines.select(
        "user", item=items, timestamp=pl.int_ranges(items.list.len(), dtype=pl.Int64)
    ).explode("item", "timestamp")
    return rows.with_columns(as_ids(rows["user"]), as_ids(rows["item"]))


def _read_attributes(path: Path, known: pl.Series) -> pl.DataFrame:
    """The attribute lists of the known items, in the file's order."""
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: expected a JSON object of item -> list of attributes")
    for item, values in content.items():
        if not isinstance(values, list) or not all(map(_is_plain, values)):
            raise DataError(
                f"{path}: item '{item}': expected a list of numbers or strings, got {values!r}"
            )
    table = pl.DataFrame(
        {
            "item": list(content),
            ATTRIBUTES: [[str(value) for value in values] for values in content.values()],
        },
        schema={"item": pl.String, ATTRIBUTES: pl.List(pl.String)},
    )
    items = known.unique().to_frame("id").select("id", item=pl.col("id").cast(pl.String))
    table = table.join(items, on="item", maintain_order="left")
    if table.is_empty():
        raise DataError(f"{path}: none of its items is in the sequences; is it the right file?")
    return table.select(item="id", attributes=ATTRIBUTES)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
