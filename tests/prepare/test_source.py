import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from aqcl.errors import ConfigError, DataError, StorageError
from aqcl.prepare.source import prepare_source, settings_of
from aqcl.schema import FIRST_ID
from tests.click_logs import samples_by_user

NO_COLUMNS: dict[str, str | None] = {"user": None, "label": None}


def write_log(path: Path, n_users: int = 30) -> Path:
    rows = [
        (f"u{user}", f"i{(user * 3 + day * 5) % 11}", day, int((user + day) % 3 == 0))
        for user in range(n_users)
        for day in range(6)
    ]
    pl.DataFrame(rows, ["user", "item", "timestamp", "label"], orient="row").write_csv(path)
    return path


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    path = write_log(tmp_path / "log.csv")
    return {"source": {"name": "table", "path": str(path), "label": "label", "time_unit": "day"}}


def test_a_source_becomes_a_dataset_that_names_it(values: dict[str, Any], tmp_path: Path) -> None:
    dataset = prepare_source({**values, "vocabulary": {"min_count": 2}}, tmp_path / "out")
    assert dataset.name == "log"
    assert dataset.manifest.source["path"] == values["source"]["path"]
    assert dataset.manifest.source["separator"] == "|"
    assert dataset.manifest.settings["vocabulary"] == {"min_count": 2}


def test_the_same_settings_and_content_are_prepared_once(
    values: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = prepare_source(values, out)
    inode = (out / "manifest.json").stat().st_ino
    os.utime(values["source"]["path"], (1, 1))
    assert prepare_source(values, out).manifest == before.manifest
    assert (out / "manifest.json").stat().st_ino == inode


@pytest.mark.parametrize(
    ("split", "tier"),
    [
        ({"kind": "last-interaction"}, 3),
        ({"kind": "time", "valid_from": 3, "test_from": 5}, 2),
        ({"kind": "last-days", "days": 2}, 3),
        ({"kind": "last-interaction", "until": 4}, 1),
    ],
)
def test_attributes_are_those_of_training_rows(
    tmp_path: Path, split: dict[str, Any], tier: int
) -> None:
    rows = [
        (f"u{user}", f"i{(user + day) % 11}", day, f"tier {day}")
        for user in range(22)
        for day in range(6)
    ]
    pl.DataFrame(rows, ["user", "item", "timestamp", "tier"], orient="row").write_csv(
        tmp_path / "log.csv"
    )
    source = {"name": "table", "path": str(tmp_path / "log.csv"), "time_unit": "day"}
    for side in ("user", "item"):
        values = {"source": {**source, f"{side}_columns": {"tier": "categorical"}}, "split": split}
        dataset = prepare_source(values, tmp_path / side)
        table = np.load(tmp_path / side / "attributes" / f"{side}_tier.npy")
        found = dataset.vocabularies["tier"].decode(table[FIRST_ID:, 0])
        assert found.to_list() == [f"tier {tier}"] * len(found)


def test_numbers_that_held_out_rows_alone_know_reach_no_model(tmp_path: Path) -> None:
    rows = [
        (f"u{user}", f"i{user % 5}" if day < 5 else "new", day, 7.0 if day == 5 else None)
        for user in range(22)
        for day in range(6)
    ]
    pl.DataFrame(rows, ["user", "item", "timestamp", "f"], orient="row").write_parquet(
        tmp_path / "log.parquet"
    )
    source = {"name": "table", "path": str(tmp_path / "log.parquet"), "time_unit": "day"}
    for side, values in {"user": [0.0] * 22, "item": [0.0] * 6}.items():
        columns = {f"{side}_columns": {"f": "numeric"}}
        dataset = prepare_source({"source": {**source, **columns}}, tmp_path / side)
        table = np.load(tmp_path / side / "attributes" / f"{side}_f.npy")
        assert table[FIRST_ID:].tolist() == values
        assert [(field.mean, field.std) for field in dataset.schema.fields] == [(0.0, 1.0)]
        told = "column f has one value, or none, in the training rows"
        assert sum(note.startswith(told) for note in dataset.notes) == 1


def test_a_context_of_numbers_that_training_never_sees_is_one_number_in_all_rows(
    tmp_path: Path,
) -> None:
    rows = [
        (f"u{user}", f"i{day}", day, float(400 + user) if day >= 12 else None, day % 2)
        for user in range(9)
        for day in range(15)
    ]
    names = ["user", "item", "timestamp", "price", "label"]
    pl.DataFrame(rows, names, orient="row").write_parquet(tmp_path / "log.parquet")
    source = {"name": "table", "path": str(tmp_path / "log.parquet"), "time_unit": "day"}
    columns = {"label": "label", "context_columns": {"price": "numeric"}}
    dataset = prepare_source({"source": {**source, **columns}}, tmp_path / "data")

    for split in (dataset.train, dataset.valid, dataset.test):
        assert set(split.context["price"].tolist()) == {0.0}
    assert any(note.startswith("column price has one value, or none") for note in dataset.notes)


@pytest.mark.parametrize("ties", ["order", "exclude"])
@pytest.mark.parametrize("spelled", ["millisecond", "iso", "datetime"])
def test_clicks_within_a_second_stand_in_their_true_order(
    tmp_path: Path, spelled: str, ties: str
) -> None:
    # In milliseconds: two seconds before, and five moments within one.
    moments = [1_599_999_998_000, 1_599_999_999_000]
    moments += [1_600_000_000_000 + 200 * step for step in range(5)]
    rows = [(f"u{user}", f"i{step}", m) for user in range(9) for step, m in enumerate(moments)]
    rows += [("x", "i9", m) for m in moments]  # an item to draw as a negative
    frame = pl.DataFrame(rows[::-1], ["user", "item", "timestamp"], orient="row")
    if spelled != "millisecond":
        frame = frame.with_columns(pl.from_epoch("timestamp", "ms"))
    if spelled == "iso":
        frame = frame.with_columns(pl.col("timestamp").dt.to_string("%Y-%m-%dT%H:%M:%S%.3f"))
    path = tmp_path / "log.parquet"
    frame.write_parquet(path)
    source = {"name": "table", "path": str(path), "time_unit": "millisecond"}
    values = {"source": source, "split": {"kind": "last-interaction", "ties": ties}}

    dataset = prepare_source(values, tmp_path / "out")

    samples = samples_by_user(dataset, dataset.test)["u0"]
    clicks = [(item, time, history) for item, time, label, history in samples if label]
    if ties == "order":
        assert clicks == [("i6", 1_600_000_000, ("i0", "i1", "i2", "i3", "i4", "i5"))]
    else:  # the second as a whole
        items = [f"i{step}" for step in range(2, 7)]
        assert clicks == [(item, 1_600_000_000, ("i0", "i1")) for item in items]


@pytest.mark.parametrize(
    ("split", "kind", "days"),
    [
        ({}, "last-days", 6),
        ({"kind": "last-days"}, "last-days", 6),
        ({"days": 4}, "last-days", 4),
        ({"kind": "last-interaction"}, "last-interaction", None),
        ({"until": 8}, "last-interaction", None),
    ],
)
def test_cuts_are_chosen_from_the_rows_before_until(
    tmp_path: Path, split: dict[str, Any], kind: str, days: int | None
) -> None:
    rows = [(f"u{u}", f"i{(u * 4 + day) % 41}", day) for u in range(9) for day in range(30)]
    rows.append(("u0", "i0", 20_000))
    path = tmp_path / "log.parquet"
    pl.DataFrame(rows, ["user", "item", "timestamp"], orient="row").write_parquet(path)
    source = {"name": "table", "path": str(path), "time_unit": "day"}

    values = {"source": source, "split": {"until": 30, **split}}
    settings = prepare_source(values, tmp_path / "out").manifest.settings["split"]

    assert (settings["kind"], settings.get("days")) == (kind, days)


def test_a_damaged_dataset_can_be_replaced(values: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole = prepare_source(values, out).manifest
    (out / "clicks.npy").write_bytes(b"")
    with pytest.raises(StorageError, match=r"the file is damaged.* \(prepare --overwrite replaces"):
        prepare_source(values, out)
    assert prepare_source(values, out, overwrite=True).manifest == whole
    (out / "manifest.json").unlink()
    with pytest.raises(
        StorageError, match=r"has no manifest.json; expected .* aqcl-dataset, made by"
    ):
        prepare_source(values, out)


def test_other_settings_or_content_need_a_word(values: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_source(values, out)
    with pytest.raises(StorageError, match="made from other data or settings"):
        prepare_source({**values, "vocabulary": {"min_count": 2}}, out)
    write_log(tmp_path / "log.csv", n_users=20)
    with pytest.raises(StorageError, match="made from other data or settings"):
        prepare_source(values, out)
    replaced = prepare_source(values, out, overwrite=True)
    assert replaced.manifest.content["counts"]["users"] == 20


def test_a_share_of_the_users_is_noted(values: dict[str, Any], tmp_path: Path) -> None:
    whole = prepare_source(values, tmp_path / "whole")
    part = prepare_source({**values, "user_share": 0.5}, tmp_path / "part")
    assert part.manifest.content["counts"]["users"] == 15
    assert part.notes == ("a random 15 of the 30 users (share 0.5, seed 0)",)
    assert part.manifest.fingerprint != whole.manifest.fingerprint
    assert whole.notes == ()


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_is_above_0_and_at_most_1(
    share: float, values: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"user_share: Input should be .*, got"):
        prepare_source({**values, "user_share": share}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "tabel"}, "source.name = 'tabel' does not exist; did you mean 'table'"),
        ({"name": 3}, r"source\.name: expected the name of a source, got 3"),
        ({"usr": "x"}, r"source\.usr: unknown key; did you mean 'user'"),
    ],
)
def test_a_bad_source_is_refused(
    change: dict[str, Any], message: str, values: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_source({"source": values["source"] | change}, tmp_path / "out")


def test_a_missing_file_is_an_error_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file matches"):
        prepare_source({"source": {"name": "table", "path": "nowhere.csv"}}, tmp_path / "out")


def test_files_make_a_table() -> None:
    one = settings_of([Path("a.csv")], None, {"user": "uid", "label": None})
    assert one == {"source": {"name": "table", "path": "a.csv", "user": "uid"}}
    two = settings_of([Path("a.csv"), Path("b.csv")], None, NO_COLUMNS)
    assert two == {"source": {"name": "table", "path": ["a.csv", "b.csv"]}}


def test_words_override_a_file_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('user_share = 0.5\n[source]\nname = "table"\npath = "a.csv"\nuser = "u"\n')
    source = {"name": "table", "path": "a.csv"}
    assert settings_of([file], None, {"user": "uid"}) == {
        "user_share": 0.5,
        "source": {**source, "user": "uid"},
    }
    assert settings_of([file], "table", NO_COLUMNS)["source"] == {**source, "user": "u"}
    # the settings of one source mean nothing to another
    assert settings_of([file], "oncold", NO_COLUMNS)["source"] == {"name": "oncold"}


def test_no_file_is_needed_for_a_source_that_reads_none() -> None:
    assert settings_of([], "oncold", NO_COLUMNS) == {"source": {"name": "oncold"}}


def test_a_file_of_settings_stands_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.toml: a file of settings stands alone"):
        settings_of([Path("a.csv"), tmp_path / "x.toml"], None, NO_COLUMNS)


def test_source_must_be_a_table_of_settings(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('source = "table"\n')
    with pytest.raises(ConfigError, match=r"source: expected a table with a name, got 'table'"):
        settings_of([tmp_path / "x.toml"], None, NO_COLUMNS)


def test_where_files_lie_makes_no_other_dataset(tmp_path: Path, values: dict[str, Any]) -> None:
    whole = prepare_source(values, tmp_path / "out").manifest
    moved = tmp_path / "elsewhere" / "log.csv"
    moved.parent.mkdir()
    Path(values["source"]["path"]).rename(moved)
    values["source"]["path"] = str(moved)
    assert prepare_source(values, tmp_path / "out").manifest == whole  # ready, not made again
    assert prepare_source(values, tmp_path / "again").manifest.fingerprint == whole.fingerprint
    *lines, _ = moved.read_text().splitlines()
    moved.write_text("\n".join(lines) + "\n")
    other = prepare_source(values, tmp_path / "third").manifest
    assert other.fingerprint != whole.fingerprint


def test_where_a_simulated_log_is_kept_makes_no_other_dataset(tmp_path: Path) -> None:
    made = [
        prepare_source(
            {"source": {"name": "oncold", "users": 60, "cache": str(tmp_path / name)}},
            tmp_path / f"out-{name}",
        )
        for name in "ab"
    ]
    assert made[0].manifest.fingerprint == made[1].manifest.fingerprint


def test_what_training_negatives_are_drawn_from_makes_no_other_dataset_of_labels(
    tmp_path: Path,
) -> None:
    source = {"name": "oncold", "users": 60, "cache": str(tmp_path / "cache")}
    for items in ("clicked", "all"):
        values = {"source": source, "negatives": {"train_items": items}}
        made = prepare_source(values, tmp_path / "out").manifest  # the second is ready
    assert made.settings["negatives"]["train_items"] == "clicked"


def test_another_order_of_columns_makes_another_dataset(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    """A model's weights of attributes are found by position."""
    path = Path(values["source"]["path"])
    pl.read_csv(path).with_columns(age=pl.col("label"), price="timestamp").write_csv(path)
    made = []
    for order in (("age", "price"), ("price", "age")):
        source = {**values["source"], "context_columns": dict.fromkeys(order, "numeric")}
        made.append(prepare_source({"source": source}, tmp_path / order[0]))
    names = [[field.name for field in dataset.schema.fields] for dataset in made]
    assert names == [["age", "price"], ["price", "age"]]
    assert made[0].manifest.fingerprint != made[1].manifest.fingerprint


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("splt", {"kind": "last-day"}, "splt: unknown key; did you mean 'split'"),
        ("vocabulary", {"min_count": 0}, "vocabulary.min_count: .*greater than or equal to 1"),
        ("fields", "age", r"fields: expected a list, got 'age'; quote it .*--set 'fields=\["),
    ],
)
def test_mistakes_are_told_before_a_log_is_read(
    tmp_path: Path, key: str, value: Any, match: str
) -> None:
    source = {"name": "table", "path": str(tmp_path / "nowhere.csv")}
    with pytest.raises(ConfigError, match=match):
        prepare_source({"source": source, key: value}, tmp_path / "data")
