"""Times of tables: of any unit and type, none guessed and none rounded."""

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aqcl.click_log import BELOW_SECOND
from aqcl.errors import DataError
from tests.datasets.small_tables import csv_file, open_log, parquet_file

DAY = 86_400


@pytest.mark.parametrize(
    ("spelled", "seconds"),
    [
        ("1970-01-02", DAY),
        ("1970-01-02T00:00:01", DAY + 1),
        ("1970-01-02 00:00:01.999", DAY + 1),
        ("1970-01-02T00:01", DAY + 60),
        ("1970-01-02T00:00:01Z", DAY + 1),
        ("1970-01-02T02:00:01+02:00", DAY + 1),
        ("1969-12-31T23:59:59.5", -1),
        ("1970-01-02 00:00:01+00", DAY + 1),
        ("1970-01-02 02:00:01.5+02", DAY + 1),
        ("1970-01-01 23:30:01-0030", DAY + 1),
        ("1970-01-02T00:01Z", DAY + 60),
        ("1970-01-02T02:01+02:00", DAY + 60),
        ("1970-01-01 22:01-02", DAY + 60),
    ],
)
def test_iso_times(tmp_path: Path, spelled: str, seconds: int) -> None:
    rows = open_log(csv_file(tmp_path, f"user,item,timestamp\n1,2,{spelled}\n")).rows.collect()

    assert rows["timestamp"].to_list() == [seconds]


@pytest.mark.parametrize("spelled", ["21-05-31", "05-06-21", "21-05-31T18:30", "021-05-31"])
def test_a_year_has_four_digits(tmp_path: Path, spelled: str) -> None:
    with pytest.raises(DataError, match=rf"row 1, column 'timestamp': .*ISO .*got '{spelled}'"):
        open_log(csv_file(tmp_path, f"user,item,timestamp\n1,2,{spelled}\n"))


@pytest.mark.parametrize(
    ("unit", "expected", "log_unit"),
    [
        ("second", [-1, 1999], "second"),
        ("millisecond", [-1, 1_700_000_000], "second"),
        ("day", [-1, 1999], "day"),
    ],
)
@pytest.mark.parametrize("as_csv", [True, False])
def test_integer_times(
    tmp_path: Path, unit: str, expected: list[int], log_unit: str, as_csv: bool
) -> None:
    last = 1_700_000_000_999 if unit == "millisecond" else 1999
    if as_csv:
        path = csv_file(tmp_path, f"user,item,timestamp\n1,2,-1\n1,2,{last}\n")
    else:
        path = parquet_file(tmp_path, timestamp=[-1, last])

    log = open_log(path, time_unit=unit)

    assert log.rows.collect()["timestamp"].to_list() == expected
    assert log.time_unit == log_unit


@pytest.mark.parametrize(
    ("unit", "latest", "message"),
    [
        ("second", 1_709_253_268_001, "beyond the year 5000 in seconds; .*=millisecond"),
        ("second", 1_709_253_268_000_001, "beyond the year 5000 in seconds; .*divide"),
        ("millisecond", 1_709_253_268_000_001, "beyond the year 5000 in milliseconds; .*divide"),
        ("millisecond", 1_709_253_268, "before 1980 in milliseconds; .*=second"),
        ("day", 1_709_253_268, "beyond the year 5000 in days; .*=second"),
    ],
)
@pytest.mark.parametrize("as_csv", [True, False])
def test_integer_times_of_another_unit_are_told(
    tmp_path: Path, unit: str, latest: int, message: str, as_csv: bool
) -> None:
    good = parquet_file(
        tmp_path, "good.parquet", timestamp=[1, 10**12 if unit == "millisecond" else 2]
    )
    paths = [good, parquet_file(tmp_path, "bad.parquet", timestamp=[1, latest])]
    if as_csv:
        paths = [csv_file(tmp_path, f"user,item,timestamp\n1,2,1\n1,2,{latest}\n", "bad.csv")]

    with pytest.raises(
        DataError, match=rf"bad.\w+: column 'timestamp': .*{latest}, lies {message}"
    ):
        open_log(paths, time_unit=unit)


@pytest.mark.parametrize(("latest", "year"), [(17_897, "2019"), (3_000, ""), (50_000, "")])
def test_days_that_may_have_been_taken_for_seconds_are_told(
    tmp_path: Path, latest: int, year: str, caplog: pytest.LogCaptureFixture
) -> None:
    open_log(parquet_file(tmp_path, timestamp=[1, latest]))
    told = f"the latest time, {latest}, is a day of {year} if it counts days: then use --set "
    assert (told in caplog.text) == bool(year)
    assert ("source.time_unit=day" in caplog.text) == bool(year)
    caplog.clear()
    open_log(parquet_file(tmp_path, timestamp=[1, latest]), time_unit="day")
    assert not caplog.records


def test_the_latest_of_a_second_is_named(tmp_path: Path) -> None:
    late, ids = 1_709_253_268_000_000, [1, 2, 3]
    path = parquet_file(tmp_path, user=ids, item=ids, timestamp=[late + 1, late + 999, late + 2])
    with pytest.raises(DataError, match=f"the latest time, {late + 999}, lies"):
        open_log(path, time_unit="millisecond")


def test_a_date_type_says_its_own_unit(tmp_path: Path) -> None:
    far = parquet_file(tmp_path, timestamp=[dt.date(2024, 3, 1), dt.date(9999, 12, 31)])
    assert len(open_log(far).rows.collect()) == 2


def test_temporal_types_and_offsets(tmp_path: Path) -> None:
    days = [dt.date(1970, 1, 2), dt.date(1970, 1, 3)]
    log = open_log(parquet_file(tmp_path, timestamp=days), time_unit="day")
    assert log.rows.collect()["timestamp"].to_list() == [DAY, 2 * DAY]
    assert log.time_unit == "second"

    for unit in ("ms", "us", "ns"):
        moments = pl.Series([dt.datetime(1970, 1, 2, 9), dt.datetime(1969, 12, 31, 9)])
        there = moments.cast(pl.Datetime(unit)).dt.replace_time_zone("Asia/Tokyo")
        rows = open_log(parquet_file(tmp_path, timestamp=there)).rows.collect()
        assert rows["timestamp"].to_list() == [DAY, -DAY]


def test_fractions_of_a_second_are_kept_where_there_are_any(tmp_path: Path) -> None:
    text = "user,item,timestamp\n1,2,1970-01-01T00:00:01.25Z\n1,2,1969-12-31 23:59:59.5\n"
    rows = open_log(csv_file(tmp_path, text + "1,2,1970-01-01\n")).rows.collect()
    assert rows["timestamp"].to_list() == [1, -1, 0]
    assert rows[BELOW_SECOND].to_list() == [250_000, 500_000, 0]

    for unit, latest in (("millisecond", 1_600_000_003_000), ("second", 3000)):
        whole = csv_file(tmp_path, f"user,item,timestamp\n1,2,{latest}\n1,2,-2000\n")
        names = open_log(whole, time_unit=unit).rows.collect_schema().names()
        assert names == ["user", "item", "timestamp"]


def test_the_cut_in_time_suits_the_days_of_the_log(tmp_path: Path) -> None:
    def split(last_day: int) -> Any:
        path = parquet_file(tmp_path, timestamp=[0, last_day * DAY])
        return open_log(path).protocol["split"]

    assert split(8) == {"kind": "last-interaction", "ties": "exclude"}
    assert split(9) == {"kind": "last-days", "days": 2, "ties": "exclude"}
    assert split(99) == {"kind": "last-days", "days": 20, "ties": "exclude"}
