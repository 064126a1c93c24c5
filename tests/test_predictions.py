from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from aqcl import predictions
from aqcl.errors import DataError, StorageError
from aqcl.predictions import Predictions, read_predictions

COLUMNS = ("user", "item", "label", "activity", "score")


def _columns(**changes: Any) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "user": np.array([2, 2, 2**62]),
        "item": np.array([5, 7, 2**62 + 1]),
        "label": np.array([1, 0, 1]),
        "activity": np.array([3, 3, 0]),
        "score": np.array([0.1, 1 / 3, 1.0]),
    }
    return columns | changes


@pytest.mark.parametrize("is_probability", [True, False])
def test_what_is_read_is_what_was_written(tmp_path: Path, is_probability: bool) -> None:
    Predictions(**_columns(), is_probability=is_probability).write(tmp_path / "p.parquet")
    back = read_predictions(tmp_path / "p.parquet")
    assert len(back) == 3
    assert back.is_probability is is_probability
    for name, dtype in zip(
        COLUMNS, (np.int64, np.int64, np.int8, np.int64, np.float64), strict=True
    ):
        np.testing.assert_array_equal(getattr(back, name), _columns()[name])
        assert getattr(back, name).dtype == dtype


def test_no_rows_are_legal(tmp_path: Path) -> None:
    columns: dict[str, Any] = {name: np.empty(0) for name in COLUMNS}
    nothing = Predictions(**columns)
    nothing.write(tmp_path / "p.parquet")
    assert len(read_predictions(tmp_path / "p.parquet")) == 0


def test_columns_are_converted_but_integers_stay_as_short_as_they_are(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "user", dtype=np.int32, mode="w+", shape=3)
    mapped[:] = [2, 2, 3]
    predictions = Predictions(
        **_columns(
            user=mapped,
            activity=np.array([0, 1, 1], dtype=np.uint64),
            label=np.array([True, False, True]),
            score=np.array([0.5, 0.25, 0.0], dtype=np.float32),
        )
    )
    assert np.shares_memory(predictions.user, mapped)
    assert predictions.activity.dtype == np.int64
    assert predictions.label.dtype == np.int8
    assert predictions.score.dtype == np.float64
    predictions.write(tmp_path / "p.parquet")
    back = read_predictions(tmp_path / "p.parquet")
    assert back.user.dtype == np.int64
    np.testing.assert_array_equal(back.user, mapped)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.array([1, 0, 2])}, r"label, row 2: expected 0 or 1, got 2"),
        ({"label": np.array([1, 0.5, 0])}, r"label, row 1: expected 0 or 1, got 0.5"),
        ({"score": np.array([0.5, np.nan, 0.5])}, r"score, row 1: expected a finite .* got nan"),
        ({"score": np.array([0.5, 0.5, np.inf])}, r"score, row 2: .* got inf; 1 of 3 rows"),
        ({"score": np.array([-0.1, 0.5, 1.1])}, r"score, row 0: .* got -0.1; 2 of 3 rows"),
        ({"activity": np.array([0, -1, 0])}, r"activity, row 1: expected 0 or more, got -1"),
        ({"activity": np.array([0, np.nan, 0])}, r"activity, row 1: expected 0 or more, got nan"),
        ({"user": np.array([2, 2.5, 3])}, r"user, row 1: expected whole numbers .* got 2.5"),
        ({"item": np.array([2, 3, np.nan])}, r"item, row 2: expected whole numbers .* got nan"),
        ({"user": np.array([2, 3, 2**63], dtype=np.uint64)}, r"user, row 2: expected whole numb"),
        ({"item": np.array(["a", "b", "c"])}, r"item, row 0: expected whole numbers .* got a"),
        ({"user": np.array([2, 3])}, r"one length, got user \(2,\), item \(3,\)"),
        ({name: np.zeros((2, 2)) for name in COLUMNS}, r"one length"),
    ],
)
def test_a_wrong_column_is_an_error_that_names_it(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Predictions(**_columns(**change))


def test_writing_leaves_no_other_file_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    Predictions(**_columns(score=np.zeros(3))).write(path)
    Predictions(**_columns()).write(path)
    assert list(tmp_path.iterdir()) == [path]
    assert read_predictions(path).score[2] == 1.0


@pytest.mark.parametrize("piece_rows", [1, 2, 3, 100])
def test_how_it_is_cut_for_writing_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_rows: int
) -> None:
    monkeypatch.setattr(predictions, "_PIECE_ROWS", piece_rows)

    Predictions(**_columns()).write(tmp_path / "p.parquet")

    back = read_predictions(tmp_path / "p.parquet")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(back, name), _columns()[name])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no disk that is always full")
def test_a_full_disk_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("wb") as full:
        monkeypatch.setattr(predictions, "atomic_stream", lambda path: nullcontext(full))
        with pytest.raises(StorageError, match=r"p\.parquet: could not be written: .*No space"):
            Predictions(**_columns()).write(tmp_path / "p.parquet")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        read_predictions(tmp_path / "p.parquet")


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    Predictions(**_columns()).write(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StorageError, match=r"p\.parquet: not a readable Parquet file"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pl.DataFrame({"user": [1], "score": [0.5]}), "item, label, activity missing"),
        (pl.DataFrame({**_columns(), "item": ["a", "b", "c"]}), "column item: .* got String"),
        (pl.DataFrame({**_columns(), "score": [0.5, None, 0.5]}), "column score: .* 1 nulls"),
        (pl.DataFrame({**_columns(), "label": [0, 1, 3]}), "label, row 2: expected 0 or 1"),
    ],
)
def test_a_file_of_something_else_is_an_error(
    tmp_path: Path, table: pl.DataFrame, message: str
) -> None:
    table.write_parquet(tmp_path / "p.parquet")
    with pytest.raises(StorageError, match=message) as error:
        read_predictions(tmp_path / "p.parquet")
    assert str(tmp_path / "p.parquet") in str(error.value)


def test_sharing_keeps_the_values_and_drops_the_copies() -> None:
    first = Predictions(**_columns())
    other = Predictions(
        **_columns(score=np.array([0.5, 0.2, 0.1]), item=np.array([5, 8, 9])), is_probability=False
    )
    shared = other.sharing(first)
    assert shared.user is first.user
    assert shared.activity is first.activity
    np.testing.assert_array_equal(shared.item, [5, 8, 9])
    np.testing.assert_array_equal(shared.score, [0.5, 0.2, 0.1])
    assert not shared.is_probability
