"""What would mislead: rows told twice, items clicked again, context that gives negatives away."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from aqcl.assessment import compare_runs
from aqcl.dataset import Dataset, open_dataset
from aqcl.errors import DataError
from aqcl.prepare.attributes import EncodedField
from aqcl.prepare.pipeline import merge_protocol, prepare
from aqcl.prepare.remarks import wide_notes
from aqcl.prepare.source import prepare_source
from aqcl.schema import Field, Kind
from aqcl.train import train
from aqcl.yardsticks import yardstick_predictions
from tests.click_logs import make_log, prepared
from tests.tiny_runs import tiny_experiment

N_USERS, N_TIMES = 300, 8


def _clicks(repeated: float = 0.0) -> list[tuple[Any, ...]]:
    """Clicks by chance; a share of them on the item that the user clicked before."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(N_USERS):
        items = rng.permutation(40)[:N_TIMES]
        for time in range(N_TIMES):
            if time and rng.random() < repeated:
                items[time] = items[time - 1]
            rows.append((f"u{user}", f"i{items[time]}", time))
    return rows


def test_copies_of_rows_are_told(tmp_path: Path) -> None:
    rows = _clicks()
    twice = prepared(tmp_path / "twice", [*rows, *rows[:100]], {})
    assert twice.notes[-1].startswith("100 rows have the user, item and time of an earlier one")
    once = prepared(tmp_path / "once", rows, {})
    assert not any("earlier one" in note for note in once.notes)


def test_items_clicked_again_are_told_and_measured(tmp_path: Path) -> None:
    dataset = prepared(tmp_path / "again", _clicks(0.3), {})
    (note,) = (note for note in dataset.notes if "clicked before" in note)
    share = float(note.split("%")[0])
    assert 20 < share < 50
    run = train(tiny_experiment(dataset.path), tmp_path / "run")
    rows = {
        row.configuration: row
        for row in compare_runs([run.path]).comparison.rows
        if row.group == "all"
    }
    # Half of what is clicked again is below the other rows in popularity, which says nothing.
    gained = (rows["clicked before + popularity"].auc or 0) - (rows["popularity"].auc or 0)
    assert gained == pytest.approx(share / 200, abs=0.04)


def test_nothing_is_told_of_items_that_nobody_clicks_again(tmp_path: Path) -> None:
    dataset = prepared(tmp_path / "once", _clicks(), {})
    assert list(dataset.notes) == ["a note"]
    assert "clicked before + popularity" not in yardstick_predictions(dataset, "test")


def test_columns_that_change_are_told(tmp_path: Path) -> None:
    rows = pl.DataFrame(_clicks(), ["user", "item", "timestamp"], orient="row")
    changing = pl.col("timestamp") % 3
    rows = rows.with_columns(size=pl.col("item").str.len_chars(), place=changing)
    rows.write_csv(tmp_path / "log.csv")
    columns = {"size": "categorical", "place": "categorical"}
    source = {"name": "table", "path": str(tmp_path / "log.csv"), "item_columns": columns}
    values = {"source": {**source, "time_unit": "day"}}
    (note,) = prepare_source(values, tmp_path / "data").notes
    assert note.startswith("column place: 40 of 40 items have several values in training")


def test_an_id_that_stands_for_many_users_is_told(tmp_path: Path) -> None:
    rows = _clicks()
    rows += [("NULL", f"i{k % 40}", k % N_TIMES) for k in range(20)]
    rows += [("robot", f"i{k % 40}", k % N_TIMES) for k in range(1200)]
    notes = prepared(tmp_path / "many", rows, {}).notes
    told = {note.split("'")[1] for note in notes if "of the training rows; if that is no" in note}
    assert told == {"NULL", "robot"}


def test_a_missing_item_is_told_and_a_popular_one_is_not(tmp_path: Path) -> None:
    rows = [
        (user, {"i0": r"\N", "i1": "top"}.get(item, item) if time else "top", time)
        for user, item, time in _clicks()
    ]
    (note,) = (n for n in prepared(tmp_path / "gap", rows, {}).notes if "training rows" in n)
    assert note.startswith("item '\\\\N' has ")
    numbers = [(int(user[1:]), int(item[1:]), time) for user, item, time in _clicks()]
    assert list(prepared(tmp_path / "numbers", numbers, {}).notes) == ["a note"]


def _with_context(folder: Path, values: pl.Series, *, labels: bool = False) -> Dataset:
    rows = _clicks()
    if labels:
        rows = [(*row, k // 3 % 2) for k, row in enumerate(rows)]
    kind: Kind = "numeric" if values.dtype.is_float() else "categorical"
    log = make_log(rows, fields=[Field("shop", kind, "context")], context={"shop": values})
    return open_dataset(prepare(log, merge_protocol(log, {}), folder / "dataset"))


def _numbers(of_item: float) -> np.ndarray[Any, Any]:
    """A number for each row: its item's with some chance, else any."""
    rng = np.random.default_rng(1)
    own = np.array([int(item[1:]) % 5 for _, item, _ in _clicks()])
    return np.where(rng.random(len(own)) < of_item, own, rng.integers(0, 5, len(own)))


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64])
def test_context_that_goes_with_the_item_is_refused(tmp_path: Path, dtype: Any) -> None:
    values = pl.Series(_numbers(0.95)).cast(dtype)
    with pytest.raises(DataError, match=r"^context column shop: .*source.item_columns.shop"):
        _with_context(tmp_path / "clicks", values)
    # Shown is shown: nothing is drawn.
    _with_context(tmp_path / "impressions", values, labels=True)
    for number, of_item in enumerate((0.0, 0.4)):
        _with_context(tmp_path / f"{number}", pl.Series(_numbers(of_item)).cast(dtype))


def test_context_that_never_varies_is_none_of_the_item(tmp_path: Path) -> None:
    for number, value in enumerate(("x", 1.5)):
        _with_context(tmp_path / f"{number}", pl.Series([value] * (N_USERS * N_TIMES)))


@pytest.mark.parametrize(
    ("dtype", "missing", "stand_in"),
    [
        (pl.Int64, 0.4, None),
        (pl.Float64, 0.4, None),
        (pl.Int64, 0.4, 77),
        (pl.Float64, 0.4, -1.0),
        (pl.Float64, 0.01, 1e6),
    ],
)
def test_missing_values_do_not_hide_context_that_goes_with_the_item(
    tmp_path: Path, dtype: Any, missing: float, stand_in: float | None
) -> None:
    rng = np.random.default_rng(2)
    gap = pl.Series(rng.random(N_USERS * N_TIMES) < missing)
    for of_item in (1.0, 0.4):
        values = pl.Series(_numbers(of_item)).cast(dtype)
        values = pl.select(pl.when(gap).then(pl.lit(stand_in, dtype)).otherwise(values)).to_series()
        if of_item == 1.0:
            with pytest.raises(DataError, match="it hardly varies among the clicks of one item"):
                _with_context(tmp_path / "own", values)
        else:
            _with_context(tmp_path / "any", values)


def test_lists_that_are_far_longer_than_the_others_are_told() -> None:
    field = Field("tags", "categories", "item")

    def noted(table: np.ndarray) -> list[str]:
        return wide_notes([EncodedField(field, table, None)])

    usual = np.zeros((50, 30), dtype=np.int32)
    usual[:, :2] = 7
    assert noted(usual[:, :19]) == []
    assert noted(np.full((50, 30), 7, dtype=np.int32)) == []
    long = np.zeros((50, 100), dtype=np.int32)
    long[:, :2], long[3] = 7, 9
    (note,) = noted(long)
    assert note.startswith("column tags: the longest list has 100 values, the mean one 4.0;")
