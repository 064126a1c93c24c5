"""Columns become ids and numbers, fitted on training rows alone."""

import numpy as np
import polars as pl
import pytest

from aqcl.errors import DataError
from aqcl.prepare import attributes, census
from aqcl.prepare.attributes import EncodedField, encode_column, entity_table, training_values
from aqcl.schema import FIRST_ID, PADDING, UNKNOWN, Field, Kind


def _encode(kind: Kind, values: pl.Series, counts: list[int], min_count: int = 1) -> EncodedField:
    return encode_column(Field("f", kind, "item"), values, np.array(counts), min_count)


def test_an_entity_has_its_latest_training_value_and_a_new_one_its_earliest() -> None:
    rows = pl.LazyFrame(
        [
            ("u", "a", 1, "old"),
            ("u", "a", 5, "new"),
            ("v", "a", 9, "newer"),
            ("u", "b", 5, "late"),
            ("v", "b", 4, None),
            ("w", "c", 8, "second"),
            ("w", "c", 7, "first"),
            ("w", "c", 7, "next"),
            ("v", "d", 4, "x"),
            ("v", "d", 4, "y"),
            ("u", "e", 9, None),
        ],
        schema=["user", "item", "timestamp", "f"],
        orient="row",
    )
    ends = pl.DataFrame({"user": ["u", "v"], "held_out_from": [5, 9]})  # w was left out

    trained = pl.Series(["a", "b", "d"])  # b without a value there
    found = training_values(rows, "item", "f", ends, trained)

    assert found.table is not None
    assert dict(found.table.sort("item").rows()) == {"a": "old", "c": "first", "d": "y"}
    assert found.varying == 1  # d; those of a and c differ in held-out rows alone


def test_values_are_found_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(0)
    n_rows, n_items = 2000, 20
    rows = pl.DataFrame(
        {
            "user": drawn.integers(0, 30, n_rows),
            "item": drawn.integers(0, n_items, n_rows),
            "timestamp": drawn.integers(0, 50, n_rows),
            "f": drawn.random(n_rows),
        }
    ).lazy()
    ends = pl.DataFrame({"user": np.arange(30), "held_out_from": np.arange(30)})
    trained = pl.Series(np.arange(n_items // 2))
    at_once = training_values(rows, "item", "f", ends, trained)
    held = []

    def latest_of_each(some: pl.DataFrame) -> pl.DataFrame:
        held.append(len(some))
        return latest(some)

    latest = attributes._latest_of_each
    monkeypatch.setattr(attributes, "_latest_of_each", latest_of_each)
    for module in (census, attributes):
        monkeypatch.setattr(module, "BATCH_ROWS", 40)
    found = training_values(rows, "item", "f", ends, trained)
    assert found.table is not None
    assert at_once.table is not None
    assert found.table.sort("item").equals(at_once.table.sort("item"))
    assert found.varying == at_once.varying > n_items // 2
    assert len(found.table) == n_items
    assert max(held) <= 3 * 40


def test_lists_of_training_rows_count_too() -> None:
    rows = pl.LazyFrame({"user": [1, 1], "item": [2, 2], "timestamp": [3, 4], "f": [["x"], ["y"]]})
    ends = pl.DataFrame({"user": [1], "held_out_from": [4]})

    found = training_values(rows, "user", "f", ends, pl.Series([1])).table
    assert found is not None
    assert found.rows() == [(1, ["x"])]


def test_categorical_values_need_training_rows() -> None:
    values = pl.Series(["b", "a", None, "held-out", "a", "b"])

    encoded = _encode("categorical", values, [1, 1, 5, 0, 2, 0], min_count=1)

    assert encoded.table.tolist() == [[3], [2], [UNKNOWN], [UNKNOWN], [2], [3]]
    assert encoded.field.size == 2 + FIRST_ID
    assert entity_table(encoded)[:, 0].tolist() == [PADDING, UNKNOWN, 3, 2, 1, 1, 2, 3]
    rarer = _encode("categorical", values, [1, 1, 5, 0, 2, 0], min_count=2)
    assert rarer.table[:, 0].tolist() == [UNKNOWN, 2, UNKNOWN, UNKNOWN, 2, UNKNOWN]


def test_lists_are_padded_and_hold_each_id_once() -> None:
    values = pl.Series([["b", "a", "b"], None, [], [None], ["x", "a", "y"], ["c"]])

    encoded = _encode("categories", values, [1, 1, 1, 1, 0, 1])

    assert encoded.vocabulary is not None
    assert encoded.vocabulary.values.to_list() == ["a", "b", "c"]
    assert encoded.table.tolist() == [[3, 2], [1, 0], [1, 0], [1, 0], [1, 2], [4, 0]]
    assert encoded.table.dtype == np.int32
    assert entity_table(encoded)[:2].tolist() == [[PADDING, PADDING], [UNKNOWN, PADDING]]


def test_a_value_listed_twice_in_one_row_counts_once() -> None:
    encoded = _encode("categories", pl.Series([["a", "a"], ["b"]]), [1, 2], min_count=2)

    assert encoded.table[:, 0].tolist() == [UNKNOWN, 2]


@pytest.mark.parametrize("values", [[None, None], [[], []]])
def test_lists_without_any_value(values: list[list[str] | None]) -> None:
    encoded = _encode("categories", pl.Series(values, dtype=pl.List(pl.String)), [1, 1])

    assert encoded.table.tolist() == [[UNKNOWN], [UNKNOWN]]
    assert encoded.field.size == FIRST_ID


def test_numbers_are_scaled_by_training_rows() -> None:
    values = pl.Series([1.0, 4.0, None, float("nan"), 1000.0])

    encoded = _encode("numeric", values, [2, 1, 7, 7, 0])

    assert encoded.field.mean == pytest.approx(2.0)
    assert encoded.field.std == pytest.approx(np.std([1, 1, 4]))
    assert encoded.table.tolist() == [1.0, 4.0, 2.0, 2.0, 1000.0]
    assert encoded.table.dtype == np.float32
    assert entity_table(encoded)[:3].tolist() == [2.0, 2.0, 1.0]


@pytest.mark.parametrize(("values", "mean"), [([3, 3], 3.0), ([None, None], 0.0), ([7, None], 7.0)])
def test_constant_numbers_have_deviation_one(values: list[int | None], mean: float) -> None:
    encoded = _encode("numeric", pl.Series([*values, 400.0], dtype=pl.Float64), [1, 1, 0])

    assert (encoded.field.mean, encoded.field.std) == (mean, 1.0)
    # What training has not seen meets a weight that it has not moved.
    assert encoded.table.tolist() == [mean] * 3
    assert not encoded.told


@pytest.mark.parametrize("value", [0.1, 0.3, 19.99])
def test_rounding_makes_no_deviation(value: float) -> None:
    for length in range(1, 200):  # at some of which the deviation of equal numbers is not 0
        encoded = _encode("numeric", pl.Series([value] * length), [1] * length)
        assert encoded.field.std == 1.0


def test_numbers_must_differ_by_what_32_bits_hold() -> None:
    seconds = pl.Series([1.7e9 + k for k in range(60)])
    with pytest.raises(DataError, match=r"column f: .* differ by 17.3, .* subtract what they"):
        _encode("numeric", seconds, [1] * 60)
    assert _encode("numeric", seconds - 1.7e9, [1] * 60).field.std == pytest.approx(17.3, abs=0.1)


def test_numbers_that_training_never_sees_have_no_mean() -> None:
    encoded = _encode("numeric", pl.Series([5.0, None]), [0, 3])

    assert (encoded.field.mean, encoded.field.std) == (0.0, 1.0)
    assert encoded.table.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("kind", "values", "match"),
    [
        ("numeric", pl.Series([1.0, float("inf")]), "column f: inf does not fit"),
        ("numeric", pl.Series([1.0, -1e39]), "column f: -1e.39 does not fit"),
        ("numeric", pl.Series(["1", "2"]), "column f: expected numbers, got String"),
        ("categorical", pl.Series([0.5, 1.0]), "column f: expected integers or text, got Float64"),
        ("categories", pl.Series(["a", "b"]), "column f: expected lists of text, got String"),
    ],
)
def test_values_must_fit_the_kind(kind: Kind, values: pl.Series, match: str) -> None:
    with pytest.raises(DataError, match=match):
        _encode(kind, values, [1, 1])
