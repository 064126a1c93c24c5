"""Amazon: both published forms, the 5-core, products without running any code."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqcl.datasets.amazon import AmazonSettings, _core, amazon_files, open_amazon
from aqcl.errors import ConfigError, DataError

PAIRS = [("u1", "B1"), ("u2", "B1"), ("u1", "B2"), ("u2", "B2")]


def _review(user: Any, item: Any, time: Any) -> str:
    text = 'a "quoted" text, \N{GRINNING FACE}'
    return json.dumps(
        {
            "reviewerID": user,
            "asin": item,
            "helpful": [0, 1],
            "reviewText": text,
            "overall": 1.0,
            "unixReviewTime": time,
        }
    )


def _reviews(tmp_path: Path, lines: list[str], name: str = "reviews_Toys_5.json.gz") -> Path:
    path = tmp_path / name
    data = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def _good(tmp_path: Path) -> Path:
    return _reviews(tmp_path, [_review(u, i, 86_400 * n) for n, (u, i) in enumerate(PAIRS)])


def _meta(tmp_path: Path, lines: list[str]) -> Path:
    return _reviews(tmp_path, lines, "meta_Toys.json.gz")


@pytest.mark.parametrize("name", ["reviews_Toys_5.json.gz", "reviews_Toys_5.json"])
def test_reviews_in_file_order(tmp_path: Path, name: str) -> None:
    path = _reviews(tmp_path, [_review(u, i, 9 - n) for n, (u, i) in enumerate(PAIRS)], name)

    log = open_amazon(AmazonSettings(path=str(path), core=2))

    assert log.rows.collect().rows() == [(u, i, 9 - n) for n, (u, i) in enumerate(PAIRS)]
    assert (log.name, log.time_unit, log.fields, log.notes) == ("amazon-toys", "second", (), ())


def test_ratings_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "ratings_Toys.csv"
    path.write_text("".join(f"{u},{i},5.0,{n}\n" for n, (u, i) in enumerate(PAIRS)) + "u3,B1,1,7\n")

    log = open_amazon(AmazonSettings(path=str(path), core=2))

    assert log.rows.collect().rows() == [(u, i, n) for n, (u, i) in enumerate(PAIRS)]
    assert log.name == "amazon-toys"
    assert log.notes == ("1 reviews left out by the 2-core filter",)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40), st.integers(1, 4))
def test_core_equals_leaving_out_one_at_a_time(pairs: list[tuple[int, int]], core: int) -> None:
    expected = list(enumerate(pairs))
    while True:
        users = Counter(user for _, (user, _) in expected)
        items = Counter(item for _, (_, item) in expected)
        poor = [row for row in expected if min(users[row[1][0]], items[row[1][1]]) < core]
        if not poor:
            break
        expected.remove(poor[0])

    schema = {"user": pl.Int64, "item": pl.Int64}
    frame = pl.DataFrame(pairs, schema=schema, orient="row").with_row_index("n")

    assert _core(frame, core)["n"].to_list() == [n for n, _ in expected]


def test_a_core_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no user and item have 5 reviews; lower source.core"):
        open_amazon(AmazonSettings(path=str(_good(tmp_path))))


def test_products(tmp_path: Path) -> None:
    meta = _meta(
        tmp_path,
        [
            "{'asin': 'B9', 'title': __import__('os').abort()}",
            "{'asin': 'B2', 'title': \"it's\", 'categories': [['A', 'B'], ['A', 'C']]}",
            "{'brand': 'Acme', 'asin': 'B1', 'categories': [['A', 'D']], 'price': 1.5}",
        ],
    )

    log = open_amazon(AmazonSettings(path=str(_good(tmp_path)), meta=str(meta), core=2))

    assert [field.name for field in log.fields] == ["category", "brand"]
    assert log.items is not None
    assert log.items.rows() == [("B2", "C", None), ("B1", "D", "Acme")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'asin': 'B1', 'title': __import__('os').abort()}", "line 1: not a Python literal"),
        ("{'asin': 'B1', 'title': ", "line 1: not a Python literal"),
        ("['B1']", "line 1: expected a product with an 'asin'"),
        ("{'asin': 'B7'}", "none of its products has a review"),
    ],
)
def test_bad_products(tmp_path: Path, line: str, message: str) -> None:
    settings = AmazonSettings(path=str(_good(tmp_path)), meta=str(_meta(tmp_path, [line])), core=2)
    with pytest.raises(DataError, match=f"meta_Toys.json.gz: {message}"):
        open_amazon(settings)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ('{"reviewerID": "u", "unixReviewTime": 1}', "line 2: key 'asin' must be .*str, got None"),
        (_review("u", "B1", "soon"), "line 2: key 'unixReviewTime' must be .*int, got 'soon'"),
        (_review("u", "B1", None), "line 2: key 'unixReviewTime' must be .*int, got None"),
        ("[]", "line 2: key 'reviewerID'"),
        (_review("u", 123, 1), "line 2: key 'asin' must be .*str, got 123"),
        (_review(7.5, "B1", 1), "line 2: key 'reviewerID' must be .*str, got 7.5"),
        (_review("u", "B1", True), "line 2: key 'unixReviewTime' must be .*int, got True"),
    ],
)
def test_bad_reviews_are_named_by_line(tmp_path: Path, line: str, message: str) -> None:
    path = _reviews(tmp_path, [_review("u", "B1", 1), line, _review("u", "B2", 1)])

    with pytest.raises(DataError, match=f"reviews_Toys_5.json.gz: {message}"):
        open_amazon(AmazonSettings(path=str(path), core=1))


@pytest.mark.parametrize("key", ["reviewerID", "asin", "unixReviewTime"])
def test_an_incomplete_first_review_is_named(tmp_path: Path, key: str) -> None:
    first = json.loads(_review("u", "B1", 1))
    del first[key]
    path = _reviews(tmp_path, [json.dumps(first), _review("u", "B2", 1)])

    with pytest.raises(DataError, match=f"line 1: key '{key}' must be .*got None"):
        open_amazon(AmazonSettings(path=str(path), core=1))


def test_a_null_hidden_behind_a_repeated_key_is_an_error(tmp_path: Path) -> None:
    twice = _review("u", "B1", 1).replace('"asin"', '"asin": null, "asin"')
    path = _reviews(tmp_path, [twice, _review("u", "B2", 1)])

    with pytest.raises(DataError, match="review 1: user, item or time is missing"):
        open_amazon(AmazonSettings(path=str(path), core=1))


def test_a_cut_off_archive(tmp_path: Path) -> None:
    path = _good(tmp_path)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"reviews_Toys_5.json.gz: "):
        open_amazon(AmazonSettings(path=str(path), core=1))

    meta = _meta(tmp_path, ["{'asin': 'B1'}"])
    meta.write_bytes(meta.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"meta_Toys.json.gz: cannot be read, is it whole\?"):
        open_amazon(AmazonSettings(path=str(_good(tmp_path)), meta=str(meta), core=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("u,B1,5.0,soon\n", "not rows of user,item,rating,timestamp, without a header: "),
        ("u,B1,5.0,1\nu,,5.0,1\n", "line 2: user, item or timestamp is missing"),
    ],
)
def test_bad_ratings(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ratings_Toys.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=f"ratings_Toys.csv: {message}"):
        open_amazon(AmazonSettings(path=str(path)))


def test_files_of_a_category_are_found_in_a_directory(tmp_path: Path) -> None:
    settings = AmazonSettings(directory=str(tmp_path), category="Toys", core=2)
    with pytest.raises(DataError, match=r"none of reviews_Toys_5.json.gz, .*ratings_Toys.csv"):
        open_amazon(settings)

    (tmp_path / "ratings_Toys.csv").write_text("u,B1,5.0,1\n")
    reviews = _good(tmp_path)
    assert amazon_files(settings) == [reviews]
    meta = _meta(tmp_path, ["{'asin': 'B1', 'categories': []}"])
    assert amazon_files(settings) == [reviews, meta]
    log = open_amazon(settings)
    assert log.name == "amazon-toys"
    assert log.items is not None
    assert log.items.rows() == [("B1", None, None)]


def test_path_or_directory_but_not_both() -> None:
    for settings in (AmazonSettings(), AmazonSettings(path="a", directory="b")):
        with pytest.raises(ConfigError, match=r"source.path or source.directory: give one"):
            open_amazon(settings)
