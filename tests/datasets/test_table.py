"""Tables: columns by name, values checked to the row, nothing rounded or guessed."""

import datetime as dt
import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aqcl import log_files
from aqcl.click_log import BELOW_SECOND, ClickLog
from aqcl.config import build
from aqcl.datasets.table import TableSettings, open_table, table_files
from aqcl.errors import ConfigError, DataError
from aqcl.prepare.attributes import training_values
from aqcl.schema import Field, Side

LARGEST = 2**63 - 1
DAY = 86_400


def _open(path: Path | list[Path] | str, **values: Any) -> ClickLog:
    paths = [str(p) for p in path] if isinstance(path, list) else str(path)
    return open_table(build(TableSettings, {"path": paths, **values}, "source"))


def _values(log: ClickLog, side: Side, *names: str) -> list[tuple[Any, ...]]:
    """The latest values of each entity, where every row trains."""
    assert log.described is not None
    rows = log.described.collect()
    ends = pl.DataFrame({"user": rows["user"].unique(), "held_out_from": LARGEST})
    table = rows.select(side).unique().sort(side)
    for name in names:
        values = training_values(rows.lazy(), side, name, ends)
        table = table.join(values, on=side, how="left", maintain_order="left")
    return table.rows()


def _csv(tmp_path: Path, text: str, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def _parquet(tmp_path: Path, name: str = "log.parquet", **columns: Any) -> Path:
    path = tmp_path / name
    standard = {"user": [1, 2], "item": ["a", "b"], "timestamp": [10, 20]}
    pl.DataFrame({**standard, **columns}).write_parquet(path)
    return path


def test_csv_with_every_kind_of_column(tmp_path: Path) -> None:
    path = _csv(
        tmp_path,
        "uid,iid,at,clicked,age,tags,price,place\n"
        f"{LARGEST},\N{GRINNING FACE},200,1,old,x|y,1.5,top\n"
        "-3,b,100,0,young,,nan,\n"
        "-3,b,300,TRUE,,z,2,end\n",
    )

    log = _open(
        path,
        user="uid",
        item="iid",
        timestamp="at",
        label="clicked",
        user_columns={"age": "categorical"},
        item_columns={"tags": "categories", "price": "numeric"},
        context_columns={"place": "categorical"},
    )

    assert log.rows.collect().equals(
        pl.DataFrame(
            {
                "user": [LARGEST, -3, -3],
                "item": ["\N{GRINNING FACE}", "b", "b"],
                "timestamp": [200, 100, 300],
                "label": pl.Series([1, 0, 1], dtype=pl.Int8),
                "place": ["top", None, "end"],
            }
        )
    )
    assert _values(log, "user", "age") == [(-3, "young"), (LARGEST, "old")]
    assert _values(log, "item", "tags", "price") == [
        ("b", ["z"], 2.0),
        ("\N{GRINNING FACE}", ["x", "y"], 1.5),
    ]
    assert log.fields == (
        Field("age", "categorical", "user"),
        Field("tags", "categories", "item"),
        Field("price", "numeric", "item"),
        Field("place", "categorical", "context"),
    )
    assert (log.name, log.time_unit, log.simulated) == ("log", "second", False)


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    path = _parquet(
        tmp_path,
        user=pl.Series([1, LARGEST], dtype=pl.UInt64),
        item=pl.Series(["12", "7"], dtype=pl.Categorical),
        tags=[["p", "", "q"], None],
        flag=[True, False],
    )

    log = _open(path, item_columns={"tags": "categories", "flag": "numeric"})

    rows = log.rows.collect()
    assert rows["user"].to_list() == [1, LARGEST]
    assert rows["item"].to_list() == ["12", "7"]
    assert _values(log, "item", "tags", "flag") == [("12", ["p", "q"], 1.0), ("7", None, 0.0)]


def test_ids_of_a_csv_are_integers_only_if_nothing_is_lost(tmp_path: Path) -> None:
    text = "user,item,timestamp\n1,012,1\n2,12,2\n"
    rows = _open(_csv(tmp_path, text)).rows.collect()
    assert rows["user"].to_list() == [1, 2]
    assert rows["item"].to_list() == ["012", "12"]

    first = _csv(tmp_path, "user,item,timestamp\n1,2,3\n", "a.csv")
    second = _csv(tmp_path, f"user,item,timestamp\n{2**63},2.0,3\n", "b.csv")
    rows = _open([first, second]).rows.collect()
    assert rows["user"].to_list() == ["1", str(2**63)]
    assert rows["item"].to_list() == ["2", "2.0"]


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
    ],
)
def test_iso_times(tmp_path: Path, spelled: str, seconds: int) -> None:
    rows = _open(_csv(tmp_path, f"user,item,timestamp\n1,2,{spelled}\n")).rows.collect()

    assert rows["timestamp"].to_list() == [seconds]


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
        path = _csv(tmp_path, f"user,item,timestamp\n1,2,-1\n1,2,{last}\n")
    else:
        path = _parquet(tmp_path, timestamp=[-1, last])

    log = _open(path, time_unit=unit)

    assert log.rows.collect()["timestamp"].to_list() == expected
    assert log.time_unit == log_unit


@pytest.mark.parametrize(
    ("unit", "latest", "message"),
    [
        ("second", 1_709_253_268_001, "beyond the year 5000 in seconds; .*=millisecond"),
        ("millisecond", 1_709_253_268_000_001, "beyond the year 5000 in milliseconds; .*divide"),
        ("millisecond", 1_709_253_268, "before 1980 in milliseconds; .*=second"),
        ("day", 1_709_253_268, "beyond the year 5000 in days; .*=second"),
    ],
)
@pytest.mark.parametrize("as_csv", [True, False])
def test_integer_times_of_another_unit_are_told(
    tmp_path: Path, unit: str, latest: int, message: str, as_csv: bool
) -> None:
    good = _parquet(tmp_path, "good.parquet", timestamp=[1, 10**12 if unit == "millisecond" else 2])
    paths = [good, _parquet(tmp_path, "bad.parquet", timestamp=[1, latest])]
    if as_csv:
        paths = [_csv(tmp_path, f"user,item,timestamp\n1,2,1\n1,2,{latest}\n", "bad.csv")]

    with pytest.raises(
        DataError, match=rf"bad.\w+: column 'timestamp': .*{latest}, lies {message}"
    ):
        _open(paths, time_unit=unit)


def test_a_date_type_says_its_own_unit(tmp_path: Path) -> None:
    far = _parquet(tmp_path, timestamp=[dt.date(2024, 3, 1), dt.date(9999, 12, 31)])
    assert len(_open(far).rows.collect()) == 2


def test_temporal_types_and_offsets(tmp_path: Path) -> None:
    days = [dt.date(1970, 1, 2), dt.date(1970, 1, 3)]
    log = _open(_parquet(tmp_path, timestamp=days), time_unit="day")
    assert log.rows.collect()["timestamp"].to_list() == [DAY, 2 * DAY]
    assert log.time_unit == "second"

    for unit in ("ms", "us", "ns"):
        moments = pl.Series([dt.datetime(1970, 1, 2, 9), dt.datetime(1969, 12, 31, 9)])
        there = moments.cast(pl.Datetime(unit)).dt.replace_time_zone("Asia/Tokyo")
        rows = _open(_parquet(tmp_path, timestamp=there)).rows.collect()
        assert rows["timestamp"].to_list() == [DAY, -DAY]


def test_fractions_of_a_second_are_kept_where_there_are_any(tmp_path: Path) -> None:
    text = "user,item,timestamp\n1,2,1970-01-01T00:00:01.25Z\n1,2,1969-12-31 23:59:59.5\n"
    rows = _open(_csv(tmp_path, text + "1,2,1970-01-01\n")).rows.collect()
    assert rows["timestamp"].to_list() == [1, -1, 0]
    assert rows[BELOW_SECOND].to_list() == [250_000, 500_000, 0]

    for unit, latest in (("millisecond", 1_600_000_003_000), ("second", 3000)):
        whole = _csv(tmp_path, f"user,item,timestamp\n1,2,{latest}\n1,2,-2000\n")
        names = _open(whole, time_unit=unit).rows.collect_schema().names()
        assert names == ["user", "item", "timestamp"]


def test_the_latest_known_attribute_wins_and_file_order_breaks_ties(tmp_path: Path) -> None:
    path = _csv(
        tmp_path,
        "user,item,timestamp,age,size\n"
        "1,a,5,young,1\n1,a,9,old,2\n1,a,9,older,\n1,a,7,young,3\n1,b,10,,4\n2,b,1,,4\n",
    )

    log = _open(path, user_columns={"age": "categorical"}, item_columns={"size": "numeric"})

    assert _values(log, "user", "age") == [(1, "older"), (2, None)]
    assert _values(log, "item", "size") == [("a", 2.0), ("b", 4.0)]


def test_a_value_seen_late_and_again_early_counts_at_its_latest_time(tmp_path: Path) -> None:
    first = _csv(tmp_path, "user,item,timestamp,age\n1,a,9,x\n1,a,9,y\n", "a.csv")
    second = _csv(tmp_path, "user,item,timestamp,age\n1,a,3,x\n", "b.csv")

    log = _open([first, second], user_columns={"age": "categorical"})

    assert _values(log, "user", "age") == [(1, "y")]


def test_globs_find_files_in_order_and_once(tmp_path: Path) -> None:
    for number in (2, 1):
        _csv(tmp_path, f"user,item,timestamp\n{number},2,3\n", f"part-{number}.csv")
    pattern = tmp_path / "part-*.csv"

    log = _open([pattern, tmp_path / "part-1.csv"])

    assert log.rows.collect()["user"].to_list() == [1, 2]
    found = table_files(TableSettings(path=[str(pattern)]))
    assert [path.name for path in found] == ["part-1.csv", "part-2.csv"]


def test_a_file_under_two_spellings_is_read_once(tmp_path: Path) -> None:
    path = _csv(tmp_path, "user,item,timestamp\n1,2,3\n")
    (tmp_path / "link.csv").symlink_to(path)
    (tmp_path / "sub").mkdir()

    log = _open([path, tmp_path / "sub" / ".." / "log.csv", tmp_path / "link.csv"])

    assert log.rows.collect().rows() == [(1, 2, 3)]


def test_a_name_with_pattern_characters_is_a_name(tmp_path: Path) -> None:
    for name in ("odd[1].csv", "odd1.csv"):
        _csv(tmp_path, f"user,item,timestamp\n1,{name},3\n", name)

    assert _open(tmp_path / "odd[1].csv").rows.collect()["item"].to_list() == ["odd[1].csv"]


def test_compressed_and_other_delimiters(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv.gz"
    with gzip.open(path, "wt") as file:
        file.write("user\titem\ttimestamp\n1\t2\t3\n")

    assert _open(path, delimiter="\t").rows.collect().rows() == [(1, 2, 3)]


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
    good = _csv(tmp_path, "user,item,timestamp,y\n1,a,1,1\n", "good.csv")
    if case in ("bad date", "mixed times", "fractions"):
        good = _csv(tmp_path, "user,item,timestamp,y\n1,a,2020-01-01,1\n", "good.csv")
    bad = _csv(tmp_path, "user,item,timestamp,y\n" + body, "bad.csv")

    with pytest.raises(
        DataError, match=f"bad.csv: {message}".replace("(", r"\(").replace(")", r"\)")
    ):
        _open([good, bad], label="y")


@pytest.mark.parametrize("value", ["much", "inf", "1e39", "-1e39"])
def test_bad_numbers_are_named(tmp_path: Path, value: str) -> None:
    path = _csv(tmp_path, f"user,item,timestamp,price\n1,a,1,2\n1,a,1,{value}\n")

    with pytest.raises(
        DataError, match=f"row 2, column 'price': .*finite number .*, got '{value}'"
    ):
        _open(path, item_columns={"price": "numeric"})


def test_ids_are_never_rounded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"log.parquet: column 'user' has type Float64.*cast"):
        _open(_parquet(tmp_path, user=[1.0, 2.0]))
    too_large = pl.Series([1, 2**63], dtype=pl.UInt64)
    with pytest.raises(DataError, match=r"row 2, column 'user': .*2\^63, got 9223372036854775808"):
        _open(_parquet(tmp_path, user=too_large))
    with pytest.raises(DataError, match="column 'timestamp' has type Float64"):
        _open(_parquet(tmp_path, timestamp=[1.0, 2.0]))


def test_columns_that_do_not_suit_their_kind(tmp_path: Path) -> None:
    path = _parquet(tmp_path, pair=[[1], [2]], day=[dt.date(2020, 1, 1)] * 2)
    for columns in ({"pair": "categorical"}, {"pair": "numeric"}, {"day": "categories"}):
        with pytest.raises(DataError, match=r"log.parquet: column '\w+' has type .* field must be"):
            _open(path, item_columns=columns)
    with pytest.raises(DataError, match=r"column 'pair' has type .*a label must be 0 or 1"):
        _open(path, label="pair")


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = _csv(tmp_path, "users,item,timestamp\n1,2,3\n")

    with pytest.raises(
        DataError,
        match=r"'user' is missing; name it with --user COLUMN; did you mean 'users'. known:",
    ):
        _open(path)
    with pytest.raises(DataError, match=r"'age' is missing; correct source.user_columns; known:"):
        _open(path, user="users", user_columns={"age": "numeric"})
    with pytest.raises(DataError, match=r"'user' is missing; name it with --user COLUMN; known: x"):
        _open(_csv(tmp_path, "x\n1\n", "one.csv"))


def test_a_label_column_is_never_ignored_in_silence(tmp_path: Path) -> None:
    path = _csv(tmp_path, "user,item,timestamp,label\n1,2,3,0\n")

    with pytest.raises(DataError, match=r"there is a column 'label'; set source.label = 'label'"):
        _open(path)
    assert "label" not in _open(path, label="").rows.collect_schema()
    assert _open(path, label="label").rows.collect()["label"].to_list() == [0]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = _parquet(tmp_path)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut.parquet: cannot be read, is it whole\?"):
        _open([whole, cut])
    with pytest.raises(DataError, match=r"ragged.csv: cannot be read"):
        _open(_csv(tmp_path, "user,item,timestamp\n1,2,3\n1,2,3,4\n", "ragged.csv"))
    latin = tmp_path / "latin.csv"
    latin.write_bytes("user,item,timestamp\n1,\xe9,3\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.csv: cannot be read.*utf-8"):
        _open(latin)


def test_advice_is_about_settings_that_exist(tmp_path: Path) -> None:
    for body in ("1,2,3,4\n", '1,2,"3\n'):
        with pytest.raises(DataError, match=r"log.csv: cannot be read") as error:
            _open(_csv(tmp_path, "user,item,timestamp\n1,2,3\n" + body))
        assert "truncate_ragged_lines" not in str(error.value)
        assert "ignore_errors" not in str(error.value)
    assert "is not properly escaped" in str(error.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_columns_of_one_name_are_refused(tmp_path: Path, compressed: bool) -> None:
    text = "user,item,timestamp,user\n1,2,3,4\n"
    path = _csv(tmp_path, text)
    if compressed:
        path = tmp_path / "log.csv.gz"
        path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(DataError, match=r"log.csv.*: 2 columns have the name 'user'; rename"):
        _open(path)
    nameless = _csv(tmp_path, "user,item,timestamp,,\n1,2,3,,\n")
    assert _open(nameless).rows.collect().rows() == [(1, 2, 3)]


SHORT_LINES = {
    "at the start": ("1,2\n1,2,3\n", 2, 2),
    "at the end": ('1,2,3\n"a,b","c\nd",3\n1,"2,3"', 5, 2),
    "one value": ("1,2,3\r\n1\r\n", 3, 1),
}


@pytest.mark.parametrize("case", SHORT_LINES)
@pytest.mark.parametrize("lines", [1, 2, 1000])
def test_a_line_with_too_few_values_is_named(
    tmp_path: Path, case: str, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "_LINES", lines)
    body, line, n_values = SHORT_LINES[case]
    path = _csv(tmp_path, "user,item,timestamp\n" + body)
    with pytest.raises(DataError, match=f"line {line}: expected 3 values, .*got {n_values};"):
        _open(path)


@pytest.mark.parametrize("lines", [1, 1000])
def test_lines_with_every_value_are_taken(
    tmp_path: Path, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "_LINES", lines)
    body = '"x\n\ny","a ""b"", c",1,\n5",7",2,"p"\n'
    path = _csv(tmp_path, "user,item,timestamp,extra\n" + body)
    rows = _open(path).rows.collect().rows()
    assert rows == [("x\n\ny", 'a "b", c', 1), ('5"', '7"', 2)]
    nameless = _csv(tmp_path, "user,item,timestamp,\n1,2,3\n")
    assert _open(nameless).rows.collect().rows() == [(1, 2, 3)]


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none-\*.csv': no file matches"):
        _open(tmp_path / "none-*.csv")
    with pytest.raises(DataError, match=r"empty.csv: the file is empty"):
        _open(_csv(tmp_path, "", "empty.csv"))
    with pytest.raises(DataError, match=r"head.csv: no rows"):
        _open(_csv(tmp_path, "user,item,timestamp\n", "head.csv"))
    with pytest.raises(DataError, match="is a directory"):
        _open(tmp_path)
    with pytest.raises(DataError, match="empty list"):
        _open([])
    with pytest.raises(DataError, match=r"log.xlsx: the name must end in one of .parquet"):
        _open(_csv(tmp_path, "", "log.xlsx"))


def test_a_file_without_rows_beside_others_is_fine(tmp_path: Path) -> None:
    head = _csv(tmp_path, "user,item,timestamp\n", "head.csv")
    body = _csv(tmp_path, "user,item,timestamp\n1,2,3\n", "body.csv")

    assert _open([head, body]).rows.collect().rows() == [(1, 2, 3)]


def test_files_must_agree(tmp_path: Path) -> None:
    first = _parquet(tmp_path, "a.parquet")
    narrow = _parquet(tmp_path, "b.parquet", user=pl.Series([3, 4], dtype=pl.Int16))
    other = _parquet(tmp_path, "c.parquet", user=["x", "y"])

    assert _open([first, narrow]).rows.collect()["user"].to_list() == [1, 2, 3, 4]
    with pytest.raises(DataError, match=r"c.parquet: column 'user' has type String, but Int64 in"):
        _open([first, other])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"item": "user"}, "different columns, got 'user' twice"),
        ({"item_columns": {"timestamp": "numeric"}}, "item_columns.timestamp: this name is taken"),
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
    path = _csv(tmp_path, "user,item,timestamp,x\n1,2,3,4\n")

    with pytest.raises(ConfigError, match=message):
        _open(path, **values)


def test_the_cut_in_time_suits_the_days_of_the_log(tmp_path: Path) -> None:
    def split(last_day: int) -> Any:
        path = _parquet(tmp_path, timestamp=[0, last_day * DAY])
        return _open(path).protocol["split"]

    assert split(8) == {"kind": "last-interaction", "ties": "exclude"}
    assert split(9) == {"kind": "last-days", "days": 2, "ties": "exclude"}
    assert split(99) == {"kind": "last-days", "days": 20, "ties": "exclude"}
