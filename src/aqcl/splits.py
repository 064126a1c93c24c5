"""Which rows train, which validate and which test: always in time order for each user."""

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from aqcl.click_log import TimeUnit
from aqcl.columns import SECONDS_PER_DAY, YEAR_5000
from aqcl.config import settings
from aqcl.errors import ConfigError, DataError

Int64s = npt.NDArray[np.int64]
Int8s = npt.NDArray[np.int8]
SplitName = Literal["train", "valid", "test"]
Moment = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)] | str | dt.datetime | dt.date

SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)

_NEEDS: dict[str, set[str]] = {
    "last-interaction": set(),
    "last-day": set(),
    "last-days": {"days"},
    "time": {"valid_from", "test_from"},
}


@settings
class SplitSettings:
    """How a click log is cut into train, valid and test."""

    kind: Literal["last-interaction", "last-day", "last-days", "time"] = "last-interaction"
    """`last-interaction`, `last-day`: each user's last row or day tests, the one before it
    validates, and a user with two has no validation; with `ties = 'exclude'` rows at one time are
    one interaction. `last-days`, `time`: one cut for all. Each source has its own default
    (docs/protocol.md)."""
    ties: Literal["exclude", "order"] = "exclude"
    """Whether rows of one user at one time are hidden from each other or ordered as in the
    file. Amazon and sequences have `order` by default."""
    days: Annotated[int, pydantic.Field(ge=2)] | None = None
    """For `last-days`: the last so many calendar days, the first half valid, the rest test."""
    valid_from: Moment | None = None
    """For `time`: the first moment of valid, an ISO date or an integer: a position or a day where
    the log has these, else seconds since 1970, also where a file has milliseconds."""
    test_from: Moment | None = None
    """For `time`: the first moment of test."""
    until: Moment | None = None
    """Rows at or after this moment are left out."""

    @pydantic.model_validator(mode="after")
    def _check_keys(self) -> "SplitSettings":
        needed = _NEEDS[self.kind]
        keys = ("days", "valid_from", "test_from")
        missing = [key for key in keys if key in needed and getattr(self, key) is None]
        if missing:
            raise ValueError(f"kind '{self.kind}' needs {' and '.join(missing)}")
        for key in keys:
            if key not in needed and getattr(self, key) is not None:
                owner = next(kind for kind, needs in _NEEDS.items() if key in needs)
                raise ValueError(
                    f"kind '{self.kind}' takes no {key}; leave it out, or set split.kind = "
                    f"'{owner}'"
                )
        return self


def moment(value: Moment, unit: TimeUnit, key: str) -> int:
    """A setting as a timestamp of the log: seconds or days since 1970 (UTC), or as it is.

    Raises:
        ConfigError: not a date, a date for a log that only has positions, or an integer of
            another unit.
    """
    if isinstance(value, int):
        latest = YEAR_5000 // SECONDS_PER_DAY if unit == "day" else YEAR_5000
        if unit != "position" and value >= latest:
            raise ConfigError(
                f"{key} = {value}: expected an integer in {unit}s since 1970, this lies beyond the "
                "year 5000; give it in them, or an ISO date such as 2014-07-01"
            )
        return value
    if unit == "position":
        raise ConfigError(f"{key} = {value}: the log's timestamps are positions; give an integer")
    try:
        date = dt.datetime.fromisoformat(value if isinstance(value, str) else value.isoformat())
    except ValueError:
        raise ConfigError(
            f"{key} = {value!r}: expected an integer or an ISO date such as 2014-07-01"
        ) from None
    if date.tzinfo is None:
        date = date.replace(tzinfo=dt.UTC)
    seconds = int(date.timestamp() // 1)
    return seconds // SECONDS_PER_DAY if unit == "day" else seconds


def utc_date(timestamp: int, unit: TimeUnit) -> str:
    """The date of a timestamp of a log that has dates."""
    return shown(timestamp, unit).partition(" ")[0]


def assign(
    user: npt.NDArray[np.integer],
    timestamp: Int64s,
    split: SplitSettings,
    unit: TimeUnit,
    latest: int | None = None,
) -> Int8s:
    """The split of each row.

    Args:
        user: user number of each row, ascending.
        timestamp: of each row, ascending for each user.
        split: the settings.
        unit: of the timestamps.
        latest: the largest timestamp of the log, where the rows are those of some users only;
            the caller then checks for empty splits.

    Raises:
        ConfigError: days asked of a log without days, or cuts in the wrong order.
        DataError: a split would be empty.
    """
    if split.kind == "last-interaction":
        # Rows that are hidden from each other, such as a basket, stay in one split, too.
        hidden = split.ties == "exclude"
        part = _by_last(user, timestamp if hidden else np.arange(len(user)))
    elif split.kind == "last-day":
        part = _by_last(user, _days(timestamp, unit))
    else:
        end = int(timestamp.max()) if latest is None else latest
        valid_from, test_from = _cuts(end, split, unit)
        part = ((timestamp >= valid_from).astype(np.int8) + (timestamp >= test_from)).astype(
            np.int8
        )
    if latest is None:
        check_not_empty(np.bincount(part, minlength=len(SPLITS)), [timestamp], split, unit)
    return part


def _days(timestamp: Int64s, unit: TimeUnit) -> Int64s:
    if unit == "position":
        raise ConfigError(
            "split.kind: days are asked for, but the log's timestamps are positions; "
            "use 'last-interaction'"
        )
    return timestamp if unit == "day" else timestamp // SECONDS_PER_DAY


def _by_last(user: npt.NDArray[np.integer], moments: Int64s) -> Int8s:
    """Split by distinct moments of each user: the last tests, the one before validates."""
    new_user = np.diff(user, prepend=user[0] - 1) != 0
    new_moment = new_user | (np.diff(moments, prepend=moments[0]) != 0)
    number = np.cumsum(new_moment)  # of the moment, over the whole log
    first = np.flatnonzero(new_user)
    last = np.append(first[1:], len(user)) - 1
    owner = np.cumsum(new_user) - 1
    n_moments = (number[last] - number[first] + 1)[owner]
    from_end = number[last][owner] - number
    part = np.full(len(user), TRAIN, dtype=np.int8)
    part[(from_end == 0) & (n_moments > 1)] = TEST
    part[(from_end == 1) & (n_moments > 2)] = VALID
    return part


def _cuts(latest: int, split: SplitSettings, unit: TimeUnit) -> tuple[int, int]:
    """The first timestamps of valid and of test."""
    if split.kind == "last-days":
        assert split.days is not None
        length = 1 if unit == "day" else SECONDS_PER_DAY
        end = (int(_days(np.array([latest]), unit)[0]) + 1) * length
        return end - split.days * length, end - (split.days - split.days // 2) * length
    assert split.valid_from is not None
    assert split.test_from is not None
    cuts = {key: moment(getattr(split, key), unit, f"split.{key}") for key in _NEEDS["time"]}
    if cuts["valid_from"] >= cuts["test_from"]:
        raise ConfigError(
            f"split.valid_from = {split.valid_from} must lie before "
            f"split.test_from = {split.test_from}"
        )
    return cuts["valid_from"], cuts["test_from"]


def check_not_empty(
    sizes: Int64s, timestamps: Iterable[Int64s], split: SplitSettings, unit: TimeUnit
) -> None:
    """Check that there are rows to train, to validate and to test.

    Args:
        sizes: rows of each split.
        timestamps: of all rows, in pieces, read only for the message.
        split: the settings.
        unit: of the timestamps.

    Raises:
        DataError: a split is empty.
    """
    if sizes.all():
        return
    empty = [name for name, size in zip(SPLITS, sizes, strict=True) if not size]
    raise DataError(
        f"split {' and '.join(empty)} would be empty ({sizes.sum()} rows, split.kind = "
        f"'{split.kind}'): {_reason(timestamps, split, unit)}"
    )


def _reason(timestamps: Iterable[Int64s], split: SplitSettings, unit: TimeUnit) -> str:
    if split.kind in ("last-interaction", "last-day"):
        what = "rows at different times" if split.kind == "last-interaction" else "days with rows"
        return f"some users need 3 {what} or more; use split.kind = 'time' or a longer log"
    values, counts = _distinct(timestamps)
    largest = ", ".join(
        f"{shown(value, unit)} ({count} rows)"
        for value, count in zip(values[:-4:-1], counts[:-4:-1], strict=True)
    )
    asked: Any = (
        f"days = {split.days}"
        if split.kind == "last-days"
        else ", ".join(
            f"{key} = {shown(moment(getattr(split, key), unit, key), unit)}"
            for key in ("valid_from", "test_from")
        )
    )
    keys = "split.days" if split.kind == "last-days" else "split.valid_from and split.test_from"
    return (
        f"timestamps range from {shown(values[0], unit)} to {shown(values[-1], unit)}, the "
        f"largest are {largest}, and {asked}; move the cuts with {keys}, or leave rows that are "
        "far too late out with split.until and choose the cuts anew"
    )


def shown(timestamp: int | np.int64, unit: TimeUnit) -> str:
    """A timestamp as a date, with the time where it is not midnight; a position as it is."""
    if unit == "position":
        return str(timestamp)
    date = str(np.datetime64(int(timestamp), "D" if unit == "day" else "s"))
    return date.removesuffix("T00:00:00").replace("T", " ")


def _distinct(timestamps: Iterable[Int64s]) -> tuple[Int64s, Int64s]:
    """The distinct timestamps, ascending, and the rows of each."""
    found = [np.unique(piece, return_counts=True) for piece in timestamps]
    values, places = np.unique(np.concatenate([v for v, _ in found]), return_inverse=True)
    counts = np.zeros(len(values), dtype=np.int64)
    np.add.at(counts, places, np.concatenate([c for _, c in found]))
    return values, counts
