"""Every source of the table through one battery, on small files made here."""

import dataclasses
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aqcl.click_log import ClickLog
from aqcl.config import as_values, build
from aqcl.dataset import open_dataset
from aqcl.datasets import SOURCES, open_source, source_files
from aqcl.errors import ConfigError, DataError
from aqcl.prepare.pipeline import merge_protocol, prepare

N_USERS, N_ITEMS, N_CLICKS = 12, 8, 6
CLICKS = [(u, (u * 3 + n * n) % N_ITEMS, n) for u in range(N_USERS) for n in range(N_CLICKS)]


@dataclass(frozen=True)
class Example:
    """A small log that a source reads, and what it must say of it."""

    values: dict[str, Any]
    """Settings of the source."""
    user: str = "{}"
    """Its name of user number n, to be formatted with n."""
    item: str = "{}"
    """Its name of item number n."""
    file: str | None = "path"
    """The setting that names its file; None where there is none to be missing."""
    simulated: bool = False
    """Whether it makes rows of its own in place of `CLICKS`."""


def _table(folder: Path) -> Example:
    lines = [f"u{u},i{i},{n * 86400},a{u % 3},{i}.5,x|y{i % 2},p{n % 2}" for u, i, n in CLICKS]
    (folder / "log.csv").write_text(
        "user,item,timestamp,age,price,tags,page\n" + "\n".join(lines) + "\n"
    )
    values = {
        "path": str(folder / "log.csv"),
        "user_columns": {"age": "categorical"},
        "item_columns": {"price": "numeric", "tags": "categories"},
        "context_columns": {"page": "categorical"},
    }
    return Example(values, user="u{}", item="i{}")


def _sequences(folder: Path) -> Example:
    lines = [" ".join(map(str, [u, *(i for v, i, _ in CLICKS if v == u)])) for u in range(N_USERS)]
    (folder / "log.txt").write_text("\n".join(lines))
    (folder / "attributes.json").write_text(json.dumps({i: [i % 2, "x"] for i in range(N_ITEMS)}))
    return Example({"path": str(folder / "log.txt"), "attributes": str(folder / "attributes.json")})


def _amazon(folder: Path) -> Example:
    reviews = [
        json.dumps({"reviewerID": f"U{u}", "asin": f"B{i}", "unixReviewTime": n * 86_400})
        for u, i, n in CLICKS
    ]
    products = [repr({"asin": f"B{i}", "categories": [["A", f"C{i}"]]}) for i in range(N_ITEMS)]
    for name, lines in (("reviews_Toys_5", reviews), ("meta_Toys", products)):
        (folder / f"{name}.json.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    values = {
        "path": str(folder / "reviews_Toys_5.json.gz"),
        "meta": str(folder / "meta_Toys.json.gz"),
        "core": 2,
    }
    return Example(values, user="U{}", item="B{}")


def _ta_feng(folder: Path) -> Example:
    head = "TRANSACTION_DT,CUSTOMER_ID,AGE_GROUP,PIN_CODE,PRODUCT_SUBCLASS,PRODUCT_ID\n"
    lines = [f"11/{n + 1}/2000,{u:04d},<25,11{u % 3},{i % 3},47{i}" for u, i, n in CLICKS]
    (folder / "ta_feng.csv").write_text(head + "\n".join(lines))
    return Example({"path": str(folder / "ta_feng.csv")}, user="{:04d}", item="47{}")


def _oncold(folder: Path) -> Example:
    sizes = {"users": 200, "items": 30, "samples": 4_000, "n_interests": 4}
    return Example({**sizes, "cache": str(folder)}, file=None, simulated=True)


MAKERS: dict[str, Callable[[Path], Example]] = {
    "table": _table,
    "sequences": _sequences,
    "amazon": _amazon,
    "ta-feng": _ta_feng,
    "oncold": _oncold,
}
COLUMN_TYPES = {
    "categorical": pl.String(),
    "categories": pl.List(pl.String()),
    "numeric": pl.Float64(),
}


@pytest.fixture(params=list(SOURCES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def example(name: str, tmp_path: Path) -> Example:
    return MAKERS[name](tmp_path)


@pytest.fixture
def values(example: Example) -> dict[str, Any]:
    return example.values


@pytest.fixture
def log(name: str, values: dict[str, Any]) -> ClickLog:
    return open_source(name, values)


def test_every_source_is_in_the_battery() -> None:
    assert set(MAKERS) == set(SOURCES)


def test_rows_have_the_columns_and_types_of_the_contract(log: ClickLog) -> None:
    rows = log.rows.collect()

    context = [field.name for field in log.fields if field.side == "context"]
    label = ["label"] if "label" in rows.columns else []
    assert rows.columns == ["user", "item", "timestamp", *label, *context]
    assert rows["user"].dtype in (pl.Int64, pl.String)
    assert rows["item"].dtype in (pl.Int64, pl.String)
    assert rows["timestamp"].dtype == pl.Int64
    assert rows.select("user", "item", "timestamp", *label).null_count().sum_horizontal()[0] == 0
    if label:
        assert rows["label"].dtype == pl.Int8
        assert set(rows["label"]) == {0, 1}
    for field in log.fields:
        if field.side == "context":
            assert rows[field.name].dtype == COLUMN_TYPES[field.kind]


def test_every_click_is_there_in_the_order_of_the_file(example: Example, log: ClickLog) -> None:
    rows = log.rows.collect()
    if example.simulated:
        assert len(rows) == example.values["samples"]
        return
    assert [str(user) for user in rows["user"]] == [example.user.format(u) for u, _, _ in CLICKS]
    assert [str(item) for item in rows["item"]] == [example.item.format(i) for _, i, _ in CLICKS]
    times = rows["timestamp"].to_list()
    unit = {"second": 86_400, "day": 1, "position": 1}[log.time_unit]
    assert [time - times[0] for time in times] == [n * unit for _, _, n in CLICKS]


def test_entity_tables_hold_their_fields_once_for_each_entity(log: ClickLog) -> None:
    rows = log.rows.collect()
    if log.described is not None:
        fields = [field for field in log.fields if field.side != "context"]
        described = log.described.collect()
        columns = ["user", "item", "timestamp"]
        assert described.columns == [*columns, *(field.name for field in fields)]
        assert described.select(columns).equals(rows.select(columns))
        assert all(described[field.name].dtype == COLUMN_TYPES[field.kind] for field in fields)
        assert log.users is None
        assert log.items is None
        return
    for side, table in (("user", log.users), ("item", log.items)):
        fields = [field for field in log.fields if field.side == side]
        if table is None:
            assert fields == []
            continue
        assert table.columns == [side, *(field.name for field in fields)]
        assert table[side].dtype == rows[side].dtype
        assert not table[side].is_duplicated().any()
        assert set(table[side]) >= set(rows[side])
        for field in fields:
            assert table[field.name].dtype == COLUMN_TYPES[field.kind]
            assert field.size == 0


def test_fields_have_names_of_their_own(log: ClickLog) -> None:
    names = [field.name for field in log.fields]

    assert len(set(names)) == len(names)
    assert names
    assert set(names).isdisjoint({"user", "item", "timestamp", "label"})


def test_opening_twice_gives_the_same_log(name: str, values: dict[str, Any], log: ClickLog) -> None:
    again = open_source(name, values)

    assert again.rows.collect().equals(log.rows.collect())
    assert log.rows.collect().equals(log.rows.collect())
    for one, other in ((log.users, again.users), (log.items, again.items)):
        assert (one is None) == (other is None)
        assert one is None or other is None or one.equals(other)
    plain = [
        dataclasses.replace(x, rows=pl.LazyFrame(), users=None, items=None) for x in (log, again)
    ]
    shown = [(x.name, x.time_unit, x.fields, x.simulated, x.protocol, x.notes) for x in plain]
    assert shown[0] == shown[1]


def test_only_a_simulated_log_says_so(example: Example, log: ClickLog) -> None:
    assert log.simulated == example.simulated == ("simulated" in log.name)


def test_the_log_can_be_prepared_with_its_own_protocol(log: ClickLog, tmp_path: Path) -> None:
    out = prepare(log, merge_protocol(log, {}), tmp_path / "dataset")

    dataset = open_dataset(out)
    assert dataset.schema.n_user_entities == log.rows.collect()["user"].n_unique() + 2
    assert [field.name for field in dataset.schema.fields] == [field.name for field in log.fields]
    assert min(len(dataset.train), len(dataset.valid), len(dataset.test)) > 0


def test_settings_are_documented_and_survive_toml(name: str, values: dict[str, Any]) -> None:
    source = SOURCES[name]
    config = build(source.settings, values, "source")

    assert build(source.settings, as_values(config), "source") == config
    for field in source.settings.__pydantic_fields__.values():
        assert field.description
    assert source.description


def test_unknown_settings_are_named(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"source\.colour: unknown key"):
        open_source(name, {**values, "colour": 1})


def test_files_are_named_for_the_fingerprint(name: str, example: Example, tmp_path: Path) -> None:
    files = source_files(name, example.values)

    made = {path for path in tmp_path.iterdir() if path.is_file()}
    assert set(files) == (set() if example.simulated else made)


def test_a_missing_file_is_named(name: str, example: Example, tmp_path: Path) -> None:
    if example.file is None:
        pytest.skip("reads no file")
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        open_source(name, {**example.values, example.file: str(tmp_path / "nowhere.csv")})


def test_unknown_source() -> None:
    with pytest.raises(ConfigError, match="source = 'amazn' does not exist; did you mean 'amazon'"):
        open_source("amazn", {})
