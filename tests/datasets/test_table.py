"""Tables: columns by name, values checked to the row, nothing rounded or guessed."""

import gzip
import math
from pathlib import Path

import polars as pl
import pytest

from aqcl.click_log import take_users
from aqcl.datasets.table import TableSettings, table_files
from aqcl.schema import Field
from tests.datasets.small_tables import LARGEST, csv_file, latest_values, open_log, parquet_file


def test_csv_with_every_kind_of_column(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        "uid,iid,at,clicked,age,tags,price,place\n"
        f"{LARGEST},\N{GRINNING FACE},200,1,old,x|y,1.5,top\n"
        "-3,b,100,0,young,,nan,\n"
        "-3,b,300,TRUE,,z,2,end\n",
    )

    log = open_log(
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
    assert latest_values(log, "user", "age") == [(-3, "young"), (LARGEST, "old")]
    assert latest_values(log, "item", "tags", "price") == [
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
    path = parquet_file(
        tmp_path,
        user=pl.Series([1, LARGEST], dtype=pl.UInt64),
        item=pl.Series(["12", "7"], dtype=pl.Categorical),
        tags=[["p", "", "q"], None],
        flag=[True, False],
    )

    log = open_log(path, item_columns={"tags": "categories", "flag": "numeric"})

    rows = log.rows.collect()
    assert rows["user"].to_list() == [1, LARGEST]
    assert rows["item"].to_list() == ["12", "7"]
    assert latest_values(log, "item", "tags", "flag") == [("12", ["p", "q"], 1.0), ("7", None, 0.0)]


def test_ids_of_a_csv_are_integers_only_if_nothing_is_lost(tmp_path: Path) -> None:
    text = "user,item,timestamp\n1,012,1\n2,12,2\n"
    rows = open_log(csv_file(tmp_path, text)).rows.collect()
    assert rows["user"].to_list() == [1, 2]
    assert rows["item"].to_list() == ["012", "12"]

    first = csv_file(tmp_path, "user,item,timestamp\n1,2,3\n", "a.csv")
    second = csv_file(tmp_path, f"user,item,timestamp\n{2**63},2.0,3\n", "b.csv")
    rows = open_log([first, second]).rows.collect()
    assert rows["user"].to_list() == ["1", str(2**63)]
    assert rows["item"].to_list() == ["2", "2.0"]


def test_the_latest_known_attribute_wins_and_file_order_breaks_ties(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        "user,item,timestamp,age,size\n"
        "1,a,5,young,1\n1,a,9,old,2\n1,a,9,older,\n1,a,7,young,3\n1,b,10,,4\n2,b,1,,4\n",
    )

    log = open_log(path, user_columns={"age": "categorical"}, item_columns={"size": "numeric"})

    assert latest_values(log, "user", "age") == [(1, "older"), (2, None)]
    assert latest_values(log, "item", "size") == [("a", 2.0), ("b", 4.0)]


def test_a_value_seen_late_and_again_early_counts_at_its_latest_time(tmp_path: Path) -> None:
    first = csv_file(tmp_path, "user,item,timestamp,age\n1,a,9,x\n1,a,9,y\n", "a.csv")
    second = csv_file(tmp_path, "user,item,timestamp,age\n1,a,3,x\n", "b.csv")

    log = open_log([first, second], user_columns={"age": "categorical"})

    assert latest_values(log, "user", "age") == [(1, "y")]


def test_the_latest_attribute_is_told_by_fractions_of_a_second(tmp_path: Path) -> None:
    text = (
        "user,item,timestamp,age\n1,a,2024-01-01T00:00:00.9,late\n1,a,2024-01-01T00:00:00.1,early\n"
    )
    log = open_log(csv_file(tmp_path, text), user_columns={"age": "categorical"})
    assert latest_values(log, "user", "age") == [(1, "late")]


def test_a_category_that_is_no_number_is_unknown(tmp_path: Path) -> None:
    path = parquet_file(tmp_path, user=[1, 2], item=[1, 1], timestamp=[1, 2], size=[1.0, math.nan])
    log = open_log(path, context_columns={"size": "categorical"})
    assert log.rows.collect()["size"].to_list() == ["1.0", None]


def test_users_left_out_describe_nothing(tmp_path: Path) -> None:
    lines = [f"{user},i{user},{user},b{user}" for user in range(40)]
    path = csv_file(tmp_path, "\n".join(["user,item,timestamp,brand", *lines]) + "\n")
    log = take_users(open_log(path, item_columns={"brand": "categorical"}), 0.25)
    assert log.described is not None
    described = log.described.collect()["user"]
    assert len(described) == 10
    assert described.equals(log.rows.collect()["user"])


def test_globs_find_files_in_order_and_once(tmp_path: Path) -> None:
    for number in (2, 1):
        csv_file(tmp_path, f"user,item,timestamp\n{number},2,3\n", f"part-{number}.csv")
    pattern = tmp_path / "part-*.csv"

    log = open_log([pattern, tmp_path / "part-1.csv"])

    assert log.rows.collect()["user"].to_list() == [1, 2]
    found = table_files(TableSettings(path=[str(pattern)]))
    assert [path.name for path in found] == ["part-1.csv", "part-2.csv"]


def test_a_file_under_two_spellings_is_read_once(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "user,item,timestamp\n1,2,3\n")
    (tmp_path / "link.csv").symlink_to(path)
    (tmp_path / "sub").mkdir()

    log = open_log([path, tmp_path / "sub" / ".." / "log.csv", tmp_path / "link.csv"])

    assert log.rows.collect().rows() == [(1, 2, 3)]


def test_a_name_with_pattern_characters_is_a_name(tmp_path: Path) -> None:
    for name in ("odd[1].csv", "odd1.csv"):
        csv_file(tmp_path, f"user,item,timestamp\n1,{name},3\n", name)

    assert open_log(tmp_path / "odd[1].csv").rows.collect()["item"].to_list() == ["odd[1].csv"]


def test_compressed_and_other_delimiters(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv.gz"
    with gzip.open(path, "wt") as file:
        file.write("user\titem\ttimestamp\n1\t2\t3\n")

    assert open_log(path, delimiter="\t").rows.collect().rows() == [(1, 2, 3)]


def test_a_file_without_rows_beside_others_is_fine(tmp_path: Path) -> None:
    head = csv_file(tmp_path, "user,item,timestamp\n", "head.csv")
    body = csv_file(tmp_path, "user,item,timestamp\n1,2,3\n", "body.csv")

    assert open_log([head, body]).rows.collect().rows() == [(1, 2, 3)]


@pytest.mark.parametrize("label", ["clicked", None])
def test_columns_that_are_not_read_are_told(
    tmp_path: Path, label: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    header, row = ("user,item,timestamp,rating", "1,2,3,5.0")
    path = csv_file(tmp_path, f"{header},clicked\n{row},1\n" if label else f"{header}\n{row}\n")
    with caplog.at_level("INFO", "aqcl"):
        open_log(path, label=label)
        open_log(path, label=label, item_columns={"rating": "numeric"})
    told = f"{path}: columns not read: rating" + ("" if label else "; every row counts as a click")
    how = "; one that describes items becomes a field by --set source.item_columns.NAME="
    (message,) = [text for text in caplog.messages if "not read" in text]
    assert message.startswith(told + how)


def test_who_has_made_a_field_is_not_told_how(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = csv_file(tmp_path, "user,item,timestamp,rating,price\n1,2,3,5.0,2\n")
    with caplog.at_level("INFO", "aqcl"):
        open_log(path, item_columns={"price": "numeric"})
    assert f"{path}: columns not read: rating; every row counts as a click" in caplog.messages


def test_an_empty_text_is_no_value_in_parquet_either(tmp_path: Path) -> None:
    values = ["", "a", None, "2"]
    columns = {
        "user": [1, 2, 3, 4],
        "item": ["a", "b", "c", "d"],
        "timestamp": [1, 2, 3, 4],
        "brand": values,
        "coded": pl.Series(values, dtype=pl.Categorical),
        "price": ["", "1.5", None, "2"],
        "place": values,
    }
    pl.DataFrame(columns).write_parquet(tmp_path / "log.parquet")
    pl.DataFrame(columns).write_csv(tmp_path / "log.csv")
    for name in ("log.parquet", "log.csv"):
        log = open_log(
            tmp_path / name,
            item_columns={"brand": "categorical", "coded": "categorical", "price": "numeric"},
            context_columns={"place": "categorical"},
        )
        assert latest_values(log, "item", "brand", "coded", "price") == [
            ("a", None, None, None),
            ("b", "a", "a", 1.5),
            ("c", None, None, None),
            ("d", "2", "2", 2.0),
        ]
        assert log.rows.collect()["place"].to_list() == [None, "a", None, "2"]


def test_a_column_without_any_value_in_one_file_takes_part(tmp_path: Path) -> None:
    """As pandas writes a column of which a day's file knows nothing."""
    known = {"brand": ["x", "y"], "price": [1.5, 2.0], "tags": [["p"], ["q", "r"]]}
    nothing = {name: pl.Series([None, None], dtype=pl.Null) for name in known}
    later = {"user": [3, 4], "item": ["c", "d"], "timestamp": [30, 40]}
    first = parquet_file(tmp_path, "a.parquet", **known)
    second = parquet_file(tmp_path, "b.parquet", **later, **nothing)
    kinds = {"brand": "categorical", "price": "numeric", "tags": "categories"}
    for paths in ([first, second], [second, first]):
        log = open_log(paths, item_columns=kinds)
        assert latest_values(log, "item", "brand", "price", "tags") == [
            ("a", "x", 1.5, ["p"]),
            ("b", "y", 2.0, ["q", "r"]),
            ("c", None, None, None),
            ("d", None, None, None),
        ]
    alone = open_log(second, item_columns={"brand": "categorical", "price": "numeric"})
    assert latest_values(alone, "item", "brand", "price") == [("c", None, None), ("d", None, None)]
