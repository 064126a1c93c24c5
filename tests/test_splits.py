"""Each kind of split, its settings and its refusals."""

import datetime as dt
from typing import Any

import numpy as np
import pytest

from aqcl.click_log import TimeUnit
from aqcl.config import build
from aqcl.errors import ConfigError, DataError
from aqcl.splits import SplitSettings, assign, moment

DAY = 86_400


def _assign(
    rows: list[tuple[int, int]], values: dict[str, Any], unit: TimeUnit = "second"
) -> list[int]:
    user, timestamp = np.array(rows, dtype=np.int64).T
    return list(map(int, assign(user, timestamp, build(SplitSettings, values), unit)))


def test_the_last_row_tests_and_the_one_before_validates() -> None:
    rows = [(0, 1), (0, 1), (0, 1), (0, 5), (1, 2), (1, 3), (2, 9)]

    assert _assign(rows, {"ties": "order"}, "position") == [0, 0, 1, 2, 0, 2, 0]


def test_rows_that_are_hidden_from_each_other_are_one_interaction() -> None:
    """The rest of a basket would tell a model, by its user, what else is in it."""
    rows = [(0, 1), (0, 1), (0, 4), (0, 4), (0, 5), (0, 5), (1, 2), (1, 3), (1, 3), (2, 9), (2, 9)]

    assert _assign(rows, {}, "position") == [0, 0, 1, 1, 2, 2, 0, 2, 2, 0, 0]


def test_the_last_day_tests_whole() -> None:
    rows = [
        *[(0, 0), (0, DAY - 1), (0, DAY), (0, 2 * DAY), (0, 3 * DAY - 1)],
        *[(1, -1), (1, 0), (1, 1)],
        *[(2, 5 * DAY), (2, 5 * DAY + 1)],
    ]

    assert _assign(rows, {"kind": "last-day"}) == [0, 0, 1, 2, 2, 0, 2, 2, 0, 0]
    days = [(user, time // DAY) for user, time in rows]
    assert _assign(days, {"kind": "last-day"}, "day") == [0, 0, 1, 2, 2, 0, 2, 2, 0, 0]


@pytest.mark.parametrize(
    ("days", "expected"),
    [(2, [0, 0, 0, 0, 1, 2]), (3, [0, 0, 0, 1, 2, 2]), (4, [0, 0, 1, 1, 2, 2])],
)
def test_the_last_days_are_calendar_days_of_the_whole_log(days: int, expected: list[int]) -> None:
    # Days 0, 1, 2, 3, 4, 5; the last row is at noon of day 5.
    rows = [
        (0, 0),
        (0, 2 * DAY - 1),
        (0, 2 * DAY),
        (1, 3 * DAY),
        (1, 4 * DAY),
        (2, 5 * DAY + 43200),
    ]

    assert _assign(rows, {"kind": "last-days", "days": days}) == expected


def test_a_cut_belongs_to_what_follows_it() -> None:
    rows = [(0, 9), (0, 10), (0, 19), (1, 20), (1, 30)]

    assert _assign(rows, {"kind": "time", "valid_from": 10, "test_from": 20}) == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (17, "second", 17),
        (17, "position", 17),
        ("1970-01-03", "second", 2 * DAY),
        ("1970-01-03", "day", 2),
        ("1970-01-01T01:00:00+01:00", "second", 0),
        ("1969-12-31 23:59:59.5", "second", -1),
        (dt.date(1970, 1, 2), "second", DAY),
        (dt.datetime(1970, 1, 2, 12, tzinfo=dt.UTC), "day", 1),
    ],
)
def test_moments(value: int | str | dt.date, unit: TimeUnit, expected: int) -> None:
    assert moment(value, unit, "split.until") == expected


def test_moments_that_are_none() -> None:
    with pytest.raises(ConfigError, match=r"split\.until = 'May': expected an integer or an ISO"):
        moment("May", "second", "split.until")
    with pytest.raises(ConfigError, match=r"split\.until = 2020-01-01: .* are positions"):
        moment("2020-01-01", "position", "split.until")
    in_milliseconds = r"split\.until = 1601728000000: expected an integer in seconds .* year 5000"
    with pytest.raises(ConfigError, match=in_milliseconds):
        moment(1_601_728_000_000, "second", "split.until")
    with pytest.raises(ConfigError, match=r"split\.until = 1601728000: .* in days since 1970"):
        moment(1_601_728_000, "day", "split.until")
    assert moment(1_601_728_000_000, "position", "split.until") == 1_601_728_000_000


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"kind": "last-days"}, "kind 'last-days' needs days"),
        ({"kind": "last-days", "days": 1}, "days: .*greater than or equal to 2"),
        (
            {"days": 2},
            "kind 'last-interaction' takes no days; leave it out, or set split.kind = 'last-days'$",
        ),
        ({"kind": "time", "valid_from": 1}, "^kind 'time' needs test_from$"),
        ({"kind": "time"}, "^kind 'time' needs valid_from and test_from$"),
        ({"kind": "last-day", "test_from": 1}, "kind 'last-day' takes no test_from; .*'time'$"),
        ({"until": 2**63}, "until"),
        ({"kind": "random"}, "kind: Input should be 'last-interaction'"),
        ({"tie": "order"}, "did you mean 'ties'"),
    ],
)
def test_settings_must_fit_together(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        build(SplitSettings, values)


@pytest.mark.parametrize(
    ("values", "unit", "match"),
    [
        ({"kind": "last-day"}, "position", "timestamps are positions"),
        ({"kind": "last-days", "days": 2}, "position", "timestamps are positions"),
        (
            {"kind": "time", "valid_from": "1970-01-02", "test_from": 86_400},
            "second",
            "valid_from = 1970-01-02 must lie before",
        ),
    ],
)
def test_settings_must_fit_the_log(values: dict[str, Any], unit: TimeUnit, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        _assign([(0, 0), (0, 1), (0, 2)], values, unit)


def test_empty_splits_are_refused_with_the_reason() -> None:
    with pytest.raises(DataError, match=r"valid would be empty .* 3 days with rows or more"):
        _assign([(0, 0), (0, 1), (0, 2), (0, 3 * DAY)], {"kind": "last-day"})
    cuts = {"kind": "time", "valid_from": 1, "test_from": 2}
    with pytest.raises(
        DataError, match=r"train and valid would be empty \(3 rows.*range from 5 to 7.*valid_from"
    ):
        _assign([(0, 5), (0, 6), (0, 7)], cuts, "position")


def test_one_far_off_timestamp_is_named() -> None:
    rows = [(0, 5), (0, 6), (0, 7), (0, 7), (0, 10**15)]
    told = (
        r"31690708-.* \(1 rows\), 1970-01-01 00:00:07 \(2 rows\), 1970-01-01 00:00:06 \(1 .*until"
    )

    with pytest.raises(DataError, match=told):
        _assign(rows, {"kind": "last-days", "days": 2})


@pytest.mark.parametrize("unit", ["second", "day"])
def test_times_and_cuts_are_told_as_dates(unit: TimeUnit) -> None:
    length = DAY if unit == "second" else 1
    rows = [(0, 19_800 * length), (0, 19_801 * length), (0, 19_802 * length)]
    cuts = {"kind": "time", "valid_from": "2024-03-25", "test_from": 20_000 * length}

    with pytest.raises(DataError) as error:
        _assign(rows, cuts, unit)
    assert "range from 2024-03-18 to 2024-03-20" in str(error.value)
    assert "and valid_from = 2024-03-25, test_from = 2024-10-04;" in str(error.value)
