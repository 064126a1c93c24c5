"""Amazon reviews of 2014 by category, as J. McAuley published them; Beauty is the paper's."""

import ast
import gzip
import json
import logging
import re
import zlib
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import pydantic

from aqcl.click_log import ClickLog
from aqcl.config import settings
from aqcl.errors import ConfigError, DataError
from aqcl.log_files import cause
from aqcl.schema import Field

logger = logging.getLogger(__name__)

CITATION = "J. McAuley et al., Image-based recommendations on styles and substitutes, SIGIR 2015"
FIELDS = (Field("category", "categorical", "item"), Field("brand", "categorical", "item"))

_REVIEW_FILES = (
    "reviews_{}_5.json.gz",
    "reviews_{}_5.json",
    "ratings_{}.csv",
    "reviews_{}.json.gz",
    "reviews_{}.json",
)
_META_FILES = ("meta_{}.json.gz", "meta_{}.json")
_REVIEW = pl.Schema({"reviewerID": pl.String, "asin": pl.String, "unixReviewTime": pl.Int64})
_RATING = pl.Schema(
    {"user": pl.String, "item": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
)
_LEADING_ASIN = re.compile(r"\{'asin': '(\w+)'")


@settings
class AmazonSettings:
    """Which category, and where its files are."""

    path: str | None = None
    """Reviews as `reviews_Beauty_5.json.gz` (JSON lines) or `ratings_Beauty.csv`; or give
    `directory`."""
    directory: str | None = None
    """Where the files of a category are, under their published names."""
    category: str = "Beauty"
    """Category in the names of the files in `directory`."""
    meta: str | None = None
    """Products as `meta_Beauty.json.gz`; with `directory`, looked for there."""
    core: Annotated[int, pydantic.Field(ge=1)] = 5
    """Users and items with fewer reviews are left out, again and again until none is left."""


def open_amazon(settings: AmazonSettings) -> ClickLog:
    """Read each review as a click on the product, whatever its rating.

    Raises:
        ConfigError: neither or both of `path` and `directory`.
        DataError: a file that is missing or damaged; the message names file and line.
    """
    path, meta = _locate(settings)
    reviews = _read_ratings(path) if path.suffix == ".csv" else _read_reviews(path)
    rows = _core(reviews, settings.core)
    if rows.is_empty():
        raise DataError(f"{path}: no user and item have {settings.core} reviews; lower source.core")
    removed = len(reviews) - len(rows)
    notes = (f"{removed:,} reviews left out by the {settings.core}-core filter",) if removed else ()
    return ClickLog(
        name=f"amazon-{_category(path, settings)}",
        rows=rows.lazy(),
        time_unit="second",
        fields=FIELDS if meta else (),
        items=_read_meta(meta, set(rows["item"].unique())) if meta else None,
        protocol={
            "split": {"kind": "last-interaction", "ties": "order"},
            "negatives": {"beta": 0.0},
        },
        notes=notes,
    )


def amazon_files(settings: AmazonSettings) -> list[Path]:
    """The file of reviews, and that of products if there is one.

    Raises:
        ConfigError: neither or both of `path` and `directory`.
        DataError: no reviews of the category in `directory`.
    """
    return [path for path in _locate(settings) if path is not None]


def _locate(settings: AmazonSettings) -> tuple[Path, Path | None]:
    """The files of reviews and of products."""
    if (settings.path is None) == (settings.directory is None):
        raise ConfigError(
            "source.path or source.directory: give one of them, the file of reviews or where the "
            "files of source.category are"
        )
    meta = Path(settings.meta).expanduser() if settings.meta else None
    if settings.path is not None:
        return Path(settings.path).expanduser(), meta
    folder = Path(str(settings.directory)).expanduser()
    found = _first_file(folder, _REVIEW_FILES, settings.category)
    if found is None:
        names = ", ".join(name.format(settings.category) for name in _REVIEW_FILES)
        raise DataError(f"{folder}: none of {names} is there; put one there or set source.path")
    meta = meta or _first_file(folder, _META_FILES, settings.category)
    logger.info("reviews: %s, products: %s", found, meta or "none")
    return found, meta


def _first_file(folder: Path, names: tuple[str, ...], category: str) -> Path | None:
    paths = (folder / name.format(category) for name in names)
    return next((path for path in paths if path.is_file()), None)


def _category(path: Path, settings: AmazonSettings) -> str:
    if settings.path is None:
        return settings.category.lower()
    return re.sub(r"^(reviews|ratings)_|_5$", "", path.name.split(".")[0]).lower()


def _read_ratings(path: Path) -> pl.DataFrame:
    """`user,item,rating,timestamp` without a header."""
    try:
        frame = pl.read_csv(path, has_header=False, schema=_RATING, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path}: not rows of user,item,rating,timestamp, without a header: {cause(error)}"
        ) from error
    if frame.is_empty():
        raise DataError(f"{path}: the file is empty")
    clicks = frame.select("user", "item", "timestamp")
    for row in _incomplete_rows(clicks):
        raise DataError(f"{path}: line {row + 1}: user, item or timestamp is missing")
    return clicks


def _read_reviews(path: Path) -> pl.DataFrame:
    """JSON lines, of which three keys are read."""
    try:
        # Read as text, a number would pass for an id; a categorical takes strings only.
        types = {
            key: pl.Categorical if dtype == pl.String else dtype for key, dtype in _REVIEW.items()
        }
        frame = pl.scan_ndjson(path, schema=types).collect().cast(_REVIEW)
    except pl.exceptions.PolarsError as error:
        _explain(path)
        raise DataError(f"{path}: not lines of JSON: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if frame.is_empty():
        raise DataError(f"{path}: the file is empty")
    clicks = frame.select(user="reviewerID", item="asin", timestamp="unixReviewTime")
    for row in _incomplete_rows(clicks):
        _explain(path)
        raise DataError(f"{path}: review {row + 1}: user, item or time is missing")
    return clicks


def _incomplete_rows(clicks: pl.DataFrame) -> list[int]:
    incomplete = clicks.select(pl.any_horizontal(pl.all().is_null())).to_series()
    return incomplete.arg_true().to_list()


def _explain(path: Path) -> None:
    """Raise an error that names the first line that is not a review."""
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            review = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {number}: not JSON: {error}") from None
        for key, dtype in _REVIEW.items():
            value = review.get(key) if isinstance(review, dict) else None
            wanted = int if dtype == pl.Int64 else str
            if type(value) is not wanted:  # true is no number
                raise DataError(
                    f"{path}: line {number}: key '{key}' must be of type {wanted.__name__}, "
                    f"got {value!r}"
                )


def _open(path: Path) -> TextIOWrapper:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _lines(path: Path) -> Iterator[str]:
    try:
        with _open(path) as file:
            yield from file
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read, is it whole? {error}") from error


def _core(reviews: pl.DataFrame, core: int) -> pl.DataFrame:
    """The largest part in which each user and each item has `core` reviews."""
    while True:
        kept = reviews.filter((pl.len().over("user") >= core) & (pl.len().over("item") >= core))
        if len(kept) == len(reviews):
            return kept
        reviews = kept


def _read_meta(path: Path, wanted: set[str]) -> pl.DataFrame:
    """Category and brand of the wanted items, of which each line is a Python literal."""
    found: dict[str, tuple[str | None, str | None]] = {}
    for number, line in enumerate(_lines(path), start=1):
        leading = _LEADING_ASIN.match(line)
        if not line.strip() or (leading and leading[1] not in wanted):
            continue
        product = _product(line, path, number)
        if product["asin"] in wanted:
            found[product["asin"]] = (_last_category(product), product.get("brand") or None)
    if not found:
        raise DataError(f"{path}: none of its products has a review; is it the right file?")
    logger.info("%s: %d of %d items described", path, len(found), len(wanted))
    rows = [(item, category, brand) for item, (category, brand) in found.items()]
    names = ("item", *(field.name for field in FIELDS))
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _product(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        product = ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(f"{path}: line {number}: not a Python literal: {error}") from None
    if not isinstance(product, dict) or not isinstance(product.get("asin"), str):
        raise DataError(f"{path}: line {number}: expected a product with an 'asin'")
    return product


def _last_category(product: dict[str, Any]) -> str | None:
    """The last entry of the last path of categories. Reference: DIN's data preparation."""
    paths = product.get("categories") or [[]]
    last = paths[-1]
    return str(last[-1]) if last else None
