"""Raw values become ids and come back."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqcl.errors import DataError, StorageError
from aqcl.schema import FIRST_ID, PADDING, UNKNOWN
from aqcl.vocab import Vocabulary, fit

LARGEST = 2**63 - 1


def _vocabulary(*values: int | str) -> Vocabulary:
    return Vocabulary(pl.Series(values), len(values) + FIRST_ID)


@given(st.lists(st.text(), unique=True, min_size=1), st.data())
def test_every_known_text_comes_back(values: list[str], data: st.DataObject) -> None:
    vocabulary = _vocabulary(*values)
    asked = data.draw(st.lists(st.sampled_from(values)))

    ids = vocabulary.encode(pl.Series("x", asked, dtype=pl.String))

    assert ids.tolist() == [values.index(value) + FIRST_ID for value in asked]
    assert vocabulary.decode(ids).to_list() == asked


def test_unseen_values_and_nulls_are_unknown() -> None:
    vocabulary = _vocabulary("a", "🧴")

    ids = vocabulary.encode(pl.Series(["🧴", "b", None, "", "a"]))

    assert ids.tolist() == [3, UNKNOWN, UNKNOWN, UNKNOWN, 2]
    assert ids.dtype == np.int32


def test_decode_gives_null_for_what_is_no_value() -> None:
    ids = np.array([PADDING, UNKNOWN, 2, 3, 4, -1])

    assert _vocabulary(7, 9).decode(ids).to_list() == [None, None, 7, 9, None, None]


def test_integers_of_any_size_and_width() -> None:
    vocabulary = _vocabulary(-5, LARGEST)

    assert vocabulary.encode(pl.Series([LARGEST, LARGEST - 1, -5])).tolist() == [3, 1, 2]
    assert vocabulary.encode(pl.Series([-5], dtype=pl.Int8)).tolist() == [2]
    assert vocabulary.encode(pl.Series([2**64 - 1], dtype=pl.UInt64)).tolist() == [UNKNOWN]


def test_text_and_integers_meet() -> None:
    assert _vocabulary(12, 7).encode(pl.Series(["7", "x", "12.5"])).tolist() == [3, 1, 1]
    assert _vocabulary("12", "7").encode(pl.Series([7, 8])).tolist() == [3, 1]


def test_another_spelling_of_an_integer_is_another_name() -> None:
    vocabulary = fit(pl.Series([7, 8]), np.array([1, 1]), 1)
    found = vocabulary.encode(pl.Series(["7", "07", " 7", "+7", "7.0"])).tolist()
    assert found == [FIRST_ID, *[UNKNOWN] * 4]


@pytest.mark.parametrize("values", [pl.Series("c", [1.0]), pl.Series("c", [["a"]])])
def test_floats_and_lists_name_nothing(values: pl.Series) -> None:
    with pytest.raises(DataError, match="column c: expected integers or text"):
        _vocabulary("a").encode(values)


def test_fit_keeps_the_frequent_in_order() -> None:
    values = pl.Series(["b", "a", None, "b", "c", "a"])
    counts = np.array([1, 1, 9, 1, 0, 1])

    assert fit(values, counts, 1).values.to_list() == ["a", "b"]
    assert fit(values, counts, 2).values.to_list() == ["a", "b"]
    assert fit(values, counts, 3).size == FIRST_ID


@pytest.mark.parametrize("values", [["x", "é"], [3, LARGEST]])
def test_survives_the_disk(tmp_path: Path, values: list[int | str]) -> None:
    _vocabulary(*values).write(tmp_path / "v.parquet")
    again = Vocabulary.read(tmp_path / "v.parquet", size_known=3)

    assert again.values.to_list() == values
    assert again.values.dtype == pl.Series(values).dtype
    assert (again.size, again.size_known) == (4, 3)
    assert Vocabulary.read(tmp_path / "v.parquet").size_known == 4


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "v.parquet").write_bytes(b"nonsense")

    with pytest.raises(StorageError, match=r"v\.parquet: cannot be read as a vocabulary"):
        Vocabulary.read(tmp_path / "v.parquet")
    with pytest.raises(StorageError, match=r"w\.parquet"):
        Vocabulary.read(tmp_path / "w.parquet")
