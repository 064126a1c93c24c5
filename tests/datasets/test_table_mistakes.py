"""Tables that cannot be read: the file, row and column are named, and how to put it right."""

import datetime as dt
import gzip
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aqcl import log_files
from aqcl.errors import ConfigError, DataError
from aqcl.log_files import cause
from tests.datasets.small_tables import csv_file, open_log, parquet_file

BAD_VALUES = {
    "label of 2": ("1,a,1,1\n1,a,1,2\n", "row 2, column 'y': expected 0 or 1, got '2'"),
    "no label": ("1,a,1,1\n1,a,1,\n", "row 2, column 'y': expected 0 or 1, got nothing"),
    "no user": ("1,a,1,1\n1,b,1,1\n,b,1,1\n", "row 3, column 'user': expected an id, got nothing"),
    "empty item": ('1,"",1,1\n', "row 1, column 'item': expected an id, got nothing"),
    "no time": ("1,a,1,1\n1,a,,1\n", "row 2, column 'timestamp': expected an integer (second)"),
    "bad time": ("1,a,1,1\n1,a,1.5,1\n", "row 2, column 'timestamp': .*got '1.5'"),
    "fractions": ("1,a,1.0,1\n", "row 1, column 'timestamp': .*in every row, an integer .*'1.0'"),
    "bad date": ("1,a,2021-02-30,1\n", "row 1, column 'timestamp': .*ISO .*got '2021-02-30'"),
    "mixed times": ("1,a,2021-02-20,1\n1,a,3,1\n", "row 2, column 'timestamp': .*ISO .*got '3'"),
    "huge time": (
        f"1,a,1,1\n1,a,{2**63},1\n",
        "row 2, column 'timestamp': .*'9223372036854775808'",
    ),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_bad_values_are_named_by_file_row_and_column(tmp_path: Path, case: str) -> None:
    body, message = BAD_VALUES[case]
    good = csv_file(tmp_path, "user,item,timestamp,y\n1,a,1,1\n", "good.csv")
    if case in ("bad date", "mixed times", "fractions"):
        good = csv_file(tmp_path, "user,item,timestamp,y\n1,a,2020-01-01,1\n", "good.csv")
    bad = csv_file(tmp_path, "user,item,timestamp,y\n" + body, "bad.csv")

    with pytest.raises(
        DataError, match=f"bad.csv: {message}".replace("(", r"\(").replace(")", r"\)")
    ):
        open_log([good, bad], label="y")


def test_bad_values_are_counted(tmp_path: Path) -> None:
    body = "".join(f"{user},a,1,1\n" for user in ["", 1, "", ""])
    path = csv_file(tmp_path, f"user,item,timestamp,y\n{body}")
    with pytest.raises(DataError, match=r"row 1, .* or remove this and 2 more such rows \("):
        open_log(path, label="y")
    one = csv_file(tmp_path, "user,item,timestamp,y\n,a,1,1\n", "one.csv")
    with pytest.raises(DataError, match=r"row 1, .* or remove the row \("):
        open_log(one, label="y")


@pytest.mark.parametrize("value", ["much", "inf", "1e39", "-1e39"])
def test_bad_numbers_are_named(tmp_path: Path, value: str) -> None:
    path = csv_file(tmp_path, f"user,item,timestamp,price\n1,a,1,2\n1,a,1,{value}\n")

    with pytest.raises(
        DataError, match=f"row 2, column 'price': .*finite number .*, got '{value}'"
    ):
        open_log(path, item_columns={"price": "numeric"})


def test_ids_are_never_rounded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"log.parquet: column 'user' has type Float64.*cast"):
        open_log(parquet_file(tmp_path, user=[1.0, 2.0]))
    too_large = pl.Series([1, 2**63], dtype=pl.UInt64)
    with pytest.raises(DataError, match=r"row 2, column 'user': .*2\^63, got 9223372036854775808"):
        open_log(parquet_file(tmp_path, user=too_large))
    with pytest.raises(DataError, match="column 'timestamp' has type Float64"):
        open_log(parquet_file(tmp_path, timestamp=[1.0, 2.0]))


def test_columns_that_do_not_suit_their_kind(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path, pair=[[1], [2]], day=[dt.date(2020, 1, 1)] * 2, span=[dt.timedelta(1)] * 2
    )
    for columns in (
        {"pair": "categorical"},
        {"span": "categorical"},
        {"pair": "numeric"},
        {"day": "categories"},
    ):
        with pytest.raises(DataError, match=r"log.parquet: column '\w+' has type .* field must be"):
            open_log(path, item_columns=columns)
    with pytest.raises(DataError, match=r"column 'pair' has type .*a label must be 0 or 1"):
        open_log(path, label="pair")


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "users,item,timestamp\n1,2,3\n")

    with pytest.raises(
        DataError,
        match=r"'user' is missing; name it with --user COLUMN; did you mean 'users'. known:",
    ):
        open_log(path)
    with pytest.raises(DataError, match=r"'age' is missing; correct source.user_columns; known:"):
        open_log(path, user="users", user_columns={"age": "numeric"})
    with pytest.raises(DataError, match=r"'user' is missing; name it with --user COLUMN; known: x"):
        open_log(csv_file(tmp_path, "x\n1\n", "one.csv"))


def test_a_label_column_is_never_ignored_in_silence(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "user,item,timestamp,label\n1,2,3,0\n")

    with pytest.raises(DataError, match=r"there is a column 'label'; learn .*`--label label`"):
        open_log(path)
    assert "label" not in open_log(path, label="").rows.collect_schema()
    assert open_log(path, label="label").rows.collect()["label"].to_list() == [0]


@pytest.mark.parametrize("name", ["clicked", "Is_Click", "target"])
def test_nor_is_one_by_another_usual_name(tmp_path: Path, name: str) -> None:
    path = csv_file(tmp_path, f"user,item,timestamp,{name}\n1,2,3,0\n")
    with pytest.raises(DataError, match=f"there is a column '{name}'; learn .*`--label {name}`"):
        open_log(path)
    # Used as something else it is what its user says.
    assert open_log(path, context_columns={name: "categorical"}).fields[0].name == name


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = parquet_file(tmp_path)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut.parquet: cannot be read, is it whole\?"):
        open_log([whole, cut])
    latin = tmp_path / "latin.csv"
    latin.write_bytes("user,item,timestamp\n1,\xe9,3\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.csv: expected UTF-8 text, got bytes of another"):
        open_log(latin)


def test_what_polars_says_is_told_without_its_advice_and_cut() -> None:
    error = pl.exceptions.ComputeError(
        f"CSV malformed {'x' * 9_000}\n\nTry `ignore_errors`.\n\nOriginal error: ```because```"
    )
    told = cause(error)
    assert told.startswith("CSV malformed x")
    assert "ignore_errors" not in told
    assert len(told) < 600


@pytest.mark.parametrize("rest", ["", "1,2,4\n" * 9])
def test_a_quote_that_is_never_closed_is_named_by_its_line(tmp_path: Path, rest: str) -> None:
    path = csv_file(tmp_path, f'user,item,timestamp\n1,2,3\n1,2,"3\n{rest}')
    with pytest.raises(DataError, match=r"log.csv: line 3: a quote opens a value here that is"):
        open_log(path)


def test_lines_have_as_many_values_as_the_header(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: expected 3 values, as the header, got 4"):
        open_log(csv_file(tmp_path, 'user,item,timestamp\n1,2,3\n1,2,3,"4\n"\n'))


@pytest.mark.parametrize("quoted", [False, True])
def test_lines_that_end_with_carriage_returns_alone_are_refused(
    tmp_path: Path, quoted: bool
) -> None:
    time = '"timestamp"' if quoted else "timestamp"
    path = tmp_path / "log.csv"
    path.write_bytes(f"user,item,{time}\r1,2,3\r1,3,4\r".encode())
    with pytest.raises(DataError, match=r"log.csv: expected lines to end with a line feed.* tr "):
        open_log(path)
    path.write_bytes(path.read_bytes().replace(b"\r", b"\r\n"))
    assert len(open_log(path).rows.collect()) == 2


@pytest.mark.parametrize("compressed", [False, True])
def test_columns_of_one_name_are_refused(tmp_path: Path, compressed: bool) -> None:
    text = "user,item,timestamp,user\n1,2,3,4\n"
    path = csv_file(tmp_path, text)
    if compressed:
        path = tmp_path / "log.csv.gz"
        path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(DataError, match=r"log.csv.*: 2 columns have the name 'user'; rename"):
        open_log(path)
    nameless = csv_file(tmp_path, "user,item,timestamp,,\n1,2,3,,\n")
    assert open_log(nameless).rows.collect().rows() == [(1, 2, 3)]


SHORT_LINES = {
    "at the start": ("1,2\n1,2,3\n", 2, 2),
    "at the end": ('1,2,3\n"a,b","c\nd",3\n1,"2,3"', 5, 2),
    "one value": ("1,2,3\r\n1\r\n", 3, 1),
    "over lines": ('"a\n\n,b",2,3\n"c\nd","e\nf"\n1,2,3\n', 5, 2),
}


@pytest.mark.parametrize("case", SHORT_LINES)
@pytest.mark.parametrize("lines", [1, 2, 1000])
def test_a_line_with_too_few_values_is_named(
    tmp_path: Path, case: str, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "_LINES", lines)
    body, line, n_values = SHORT_LINES[case]
    path = csv_file(tmp_path, "user,item,timestamp\n" + body)
    with pytest.raises(DataError, match=f"line {line}: expected 3 values, .*got {n_values};"):
        open_log(path)


@pytest.mark.parametrize("lines", [1, 1000])
def test_lines_with_every_value_are_taken(
    tmp_path: Path, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "_LINES", lines)
    body = '"x\n\ny","a ""b"", c",1,\n5",7",2,"p"\n"""","""\n""",3,""\n'
    path = csv_file(tmp_path, '\ufeff"user",item,timestamp,"ex,tra"\n' + body)
    rows = open_log(path).rows.collect().rows()
    assert rows == [("x\n\ny", 'a "b", c', 1), ('5"', '7"', 2), ('"', '"\n"', 3)]
    nameless = csv_file(tmp_path, "user,item,timestamp,\n1,2,3\n")
    assert open_log(nameless).rows.collect().rows() == [(1, 2, 3)]


BAD_QUOTES = {
    "escaped by a backslash": (
        r""""5\" tv",1,a,16
x,2,b,16
w,3,c,16
"7\" tv",4,d,16
v,5,e,16
""",
        2,
    ),
    "an even number": (
        r"""x,1,a,1
"5\" or 6\" tv",2,b,1""",
        3,
    ),
    "in the line of a value's end": (
        """"x
y"z,1,a,1
w,2,b,1""",
        3,
    ),
    "never closed": ('x,1,a,1\n"y,2,b,1\n"z",3,c,1\n', 4),
    "in a value without quotes": ('x,1,a,1\n5" tv,2,b,1\n6" tv,3,c,1\n', 3),
}


@pytest.mark.parametrize("case", BAD_QUOTES)
@pytest.mark.parametrize("lines", [1, 1000])
def test_a_quote_within_a_value_must_be_doubled(
    tmp_path: Path, case: str, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "_LINES", lines)
    body, line = BAD_QUOTES[case]
    path = csv_file(tmp_path, "title,user,item,timestamp\n" + body)
    came = re.escape(("title\n" + body).split("\n")[line - 1])
    with pytest.raises(DataError, match=rf"log.csv: line {line}: .* doubled, as .* got {came};"):
        open_log(path)


@pytest.mark.parametrize("lines", [1, 1000])
def test_a_line_with_too_many_values_is_named(
    tmp_path: Path, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "_LINES", lines)
    path = csv_file(tmp_path, 'user,item,timestamp\n1,"a,b",3\n1,a,b,3\n')
    with pytest.raises(DataError, match=r"log.csv: line 3: expected 3 values.*got 4; put .* ','"):
        open_log(path)


def test_a_log_may_quote_no_value(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 'user,item,timestamp\n5" tv,"x,3\n"y",6",4\n')
    with pytest.raises(DataError, match=r"line 2: .* or set source.quote = '' if the file puts no"):
        open_log(path)
    assert open_log(path, quote="").rows.collect().rows() == [('5" tv', '"x', 3), ('"y"', '6"', 4)]
    with pytest.raises(ConfigError, match=r"source.quote: "):
        open_log(path, quote="'")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none-\*.csv': no file matches"):
        open_log(tmp_path / "none-*.csv")
    with pytest.raises(DataError, match=r"empty.csv: the file is empty"):
        open_log(csv_file(tmp_path, "", "empty.csv"))
    with pytest.raises(DataError, match=r"head.csv: no rows"):
        open_log(csv_file(tmp_path, "user,item,timestamp\n", "head.csv"))
    with pytest.raises(DataError, match="is a directory"):
        open_log(tmp_path)
    with pytest.raises(DataError, match="empty list"):
        open_log([])
    with pytest.raises(DataError, match=r"log.xlsx: the name must end in one of .parquet"):
        open_log(csv_file(tmp_path, "", "log.xlsx"))


def test_files_must_agree(tmp_path: Path) -> None:
    first = parquet_file(tmp_path, "a.parquet")
    narrow = parquet_file(tmp_path, "b.parquet", user=pl.Series([3, 4], dtype=pl.Int16))
    other = parquet_file(tmp_path, "c.parquet", user=["x", "y"])

    assert open_log([first, narrow]).rows.collect()["user"].to_list() == [1, 2, 3, 4]
    with pytest.raises(DataError, match=r"c.parquet: column 'user' has type String, but Int64 in"):
        open_log([first, other])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"item": "user"}, "different columns, got 'user' twice"),
        ({"item_columns": {"timestamp": "numeric"}}, "item_columns.timestamp: this name is taken"),
        ({"label": "x", "context_columns": {"x": "numeric"}}, "_columns.x: the column is already"),
        ({"user": "x", "user_columns": {"x": "numeric"}}, "_columns.x: the column is already"),
        (
            {"user_columns": {"x": "numeric"}, "item_columns": {"x": "numeric"}},
            "item_columns.x: the column is already given",
        ),
        ({"delimiter": ";;"}, "delimiter must be one ASCII character"),
        ({"separator": ""}, "separator not empty"),
        ({"item_columns": {"x": "text"}}, "source.item_columns.x: .*categorical.*got 'text'"),
        ({"context_columns": {"x": "categories"}}, "source.context_columns.x"),
    ],
)
def test_mappings_that_cannot_be(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    path = csv_file(tmp_path, "user,item,timestamp,x\n1,2,3,4\n")

    with pytest.raises(ConfigError, match=message):
        open_log(path, **values)
