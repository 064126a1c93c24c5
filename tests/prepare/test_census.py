"""Faults are told by their row of the whole log, in whatever batch they stand."""

from typing import Any

import polars as pl
import pytest

from aqcl.errors import DataError
from aqcl.prepare import census
from aqcl.prepare.census import take_census
from aqcl.schema import Field
from aqcl.splits import SplitSettings
from tests.click_logs import make_log

ROWS: list[tuple[Any, ...]] = [(f"u{n % 4}", n % 3, n, n % 2) for n in range(20)]


@pytest.fixture(autouse=True, params=[3, 7, 100])
def _batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "BATCH_ROWS", request.param)


def _with(*changes: tuple[int, int, Any]) -> list[tuple[Any, ...]]:
    """The rows with other values, each given by row, column and value."""
    rows = [list(row) for row in ROWS]
    for row, column, value in changes:
        rows[row][column] = value
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (_with((16, 0, None)), "column user: 1 nulls, the first in row 16"),
        (_with((8, 1, None), (19, 1, None)), "column item: 2 nulls, the first in row 8"),
        (_with((0, 2, None), (1, 0, None)), "column user: 1 nulls, the first in row 1;"),
        (_with((14, 2, None), (3, 3, 5)), "column timestamp: 1 nulls, the first in row 14"),
        (_with((13, 3, 2), (17, 3, 3)), r"label, row 13: expected 0 or 1, got 2 \(Int8\)"),
        (_with((18, 3, None)), r"label, row 18: expected 0 or 1, got None \(Int8\)"),
        (_with(*((n, 3, 1) for n in range(20))), r"every row is 1 \(a click\)"),
        (_with(*((n, 3, 0) for n in range(20))), r"every row is 0 \(no click\)"),
    ],
)
def test_faults_name_the_row(rows: list[tuple[Any, ...]], match: str) -> None:
    with pytest.raises(DataError, match=match):
        take_census(make_log(rows), [], SplitSettings())


def test_what_is_there_is_counted() -> None:
    fields = [Field("page", "categorical", "context")]
    pages = [None, *(f"p{n % 3}" for n in range(1, 20))]
    log = make_log(ROWS, fields=fields, context={"page": pages})
    found = take_census(log, fields, SplitSettings(until=18))

    assert (found.n_rows, found.n_left_out, found.latest, found.labelled) == (18, 2, 17, True)
    expected: dict[str, dict[Any, int]] = {
        "user": {"u0": 5, "u1": 5, "u2": 4, "u3": 4},
        "item": {0: 6, 1: 6, 2: 6},
        "page": {"p0": 5, "p1": 6, "p2": 6},
    }
    for name, column in found.columns.items():
        assert dict(zip(column.values, column.rows.tolist(), strict=True)) == expected[name]
        assert list(expected[name]) == column.values.to_list()
    assert found.rows.collect()["timestamp"].to_list() == list(range(18))


def test_the_earliest_moment_is_that_of_the_whole_log() -> None:
    rows = _with((12, 2, -5), (13, 2, 99))
    earliest = r"before split\.until = -9; the earliest timestamp is 1969-12-27"  # in days
    with pytest.raises(DataError, match=earliest):
        take_census(make_log(rows), [], SplitSettings(until=-9))


def test_an_until_that_leaves_no_row_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    take_census(make_log(ROWS), [], SplitSettings(until=20_000))
    assert "split.until = 20000 leaves no row out, the latest timestamp is 1970-" in caplog.text
    caplog.clear()
    take_census(make_log(ROWS), [], SplitSettings(until=18))
    assert "leaves no row out" not in caplog.text


def test_a_failure_of_the_source_is_not_lost() -> None:
    log = make_log(_with((15, 0, "12"), (3, 0, "no number")))
    frame = log.rows.with_columns(pl.col("user").cast(pl.Int64))
    with pytest.raises(pl.exceptions.PolarsError, match="conversion from"):
        list(census.batches(frame))


@pytest.mark.parametrize(
    ("time", "told"),
    [(19_000, ""), (7_304, "from 1989-12-31 to 2022-01-08"), (47_482, "to 2100-01-01 (UTC)")],
)
def test_dates_at_which_nobody_clicks_are_a_warning(
    time: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("a", "x", 19_000), ("b", "y", time)]
    take_census(make_log(rows), [], SplitSettings())
    assert bool(caplog.records) == bool(told)
    assert told in caplog.text
    assert "source.time_unit" in caplog.text or not told
    assert ("too early from the log" in caplog.text) == (time < 19_000)
    assert ("split.until" in caplog.text) == (time > 19_000)
    caplog.clear()
    take_census(make_log(rows, time_unit="position"), [], SplitSettings())
    take_census(make_log(rows), [], SplitSettings(until=19_001 if time > 19_000 else None))
    assert len(caplog.records) == (time < 19_000)
