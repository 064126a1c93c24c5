"""Preparation states its facts, refuses what cannot be learnt and keeps files whole."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aqcl.config import as_values, build
from aqcl.dataset import open_dataset
from aqcl.errors import ConfigError, DataError, StorageError
from aqcl.prepare import pipeline as module
from aqcl.prepare.pipeline import Origin, PrepareSettings, merge_protocol, prepare
from aqcl.schema import FIRST_ID, UNKNOWN, Field
from aqcl.storage import write_manifest
from tests.click_logs import (
    FRAME,
    SPLIT_SETTINGS,
    make_log,
    prepared,
    samples_by_user,
    simple_rows,
)


@pytest.mark.parametrize("kind", sorted(SPLIT_SETTINGS))
def test_the_same_log_and_settings_give_the_same_bytes(kind: str, tmp_path: Path) -> None:
    rows = [*simple_rows(), *(("f", f"i{time}", time) for time in FRAME)]
    values = {"split": {"kind": kind, **SPLIT_SETTINGS[kind]}}
    first, second = (prepared(tmp_path / name, rows, values) for name in ("first", "second"))
    assert first.manifest == second.manifest


def test_manifest_states_the_facts(tmp_path: Path) -> None:
    rows = [
        *[("a", item, time) for time, item in enumerate("pqrst")],
        *[("b", item, time) for time, item in enumerate("pqu")],
        *[("c", item, time) for time, item in enumerate("pq")],
        ("d", "p", 0),
    ]
    dataset = prepared(tmp_path / "out", rows, {"negatives": {"train_items": "all"}})
    content = dataset.manifest.content

    assert content["counts"] == {
        "users": 4,
        "items": 6,
        "rows": 11,
        "clicks": 11,
        "splits": {
            "train": {"rows": 12, "positives": 6, "users": 4},
            "valid": {"rows": 4, "positives": 2, "users": 2},
            "test": {"rows": 6, "positives": 3, "users": 3},
        },
    }
    assert dataset.mean_activity == 6 / 4
    assert dataset.thresholds == (2, 4)  # activities 1, 2, 4
    assert (dataset.name, dataset.simulated) == ("small", False)
    assert (content["notes"], content["time_unit"]) == (["a note"], "day")
    assert content["unknown_items"]["train"]["positives"] == 0
    assert content["unknown_items"]["test"]["positives"] == 2 / 3  # t and u
    assert content["users_without_negative"] == 0
    assert dataset.protocol == {
        "split": "last-interaction",
        "ties": "exclude",
        "labels": "sampled",
        "beta": 0.0,
        "train_items": "all",
        "ratio": 1,
        "train": "frozen",
        "exclude": "train",
        "seed": 0,
    }


def test_impressions_have_no_negative_settings_in_their_protocol(tmp_path: Path) -> None:
    rows = [(f"u{u}", f"i{u}", time, u % 2) for u in range(4) for time in range(3)]
    dataset = prepared(tmp_path / "out", rows, {"negatives": {"beta": 1.0}})

    assert dataset.protocol == {
        "split": "last-interaction",
        "ties": "exclude",
        "labels": "impressions",
    }
    assert not (dataset.path / "negative_cdf.npy").exists()
    told = "the settings of negatives do nothing: the log has labels, and none is drawn"
    assert told in dataset.notes
    assert told not in prepared(tmp_path / "plain", rows).notes


def test_rows_from_a_moment_on_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*simple_rows(), ("late", "new item", 7), ("u0", "i8", 5)]

    dataset = prepared(tmp_path / "out", rows, {"split": {"until": "1970-01-06"}})

    assert dataset.manifest.content["rows_left_out_by_until"] == 2
    assert dataset.notes == ("a note", "2 rows from split.until = 1970-01-06 on left out")
    assert "late" not in dataset.vocabularies["user"].values
    assert "new item" not in dataset.vocabularies["item"].values


def test_ids_of_any_size_and_script(tmp_path: Path) -> None:
    largest = 2**63 - 1
    rows = [(largest - user, f"🧴{'🏽' * item}", item) for user in range(3) for item in range(4)]
    rows.append((-(2**63), "é", -5))

    dataset = prepared(tmp_path / "out", rows)

    users, items = dataset.vocabularies["user"], dataset.vocabularies["item"]
    assert users.values.to_list() == [-(2**63), largest - 2, largest - 1, largest]
    train = dataset.train.columns
    positive = train["label"] == 1
    assert set(items.decode(train["item"][positive])) == {"é", "🧴", "🧴🏽"}
    assert set(users.decode(train["user"])) == set(users.values)


def test_timestamps_over_the_whole_range_are_sorted(tmp_path: Path) -> None:
    low, high = -(2**63), 2**63 - 1
    rows = [("a", "p", high), ("a", "q", low), ("a", "r", 0), ("b", "s", 1), ("b", "p", 2)]

    dataset = prepared(tmp_path / "out", rows, time_unit="position")

    assert samples_by_user(dataset, dataset.test)["a"][0] == ("p", high, 1, ("q", "r"))


def test_fields_are_encoded_and_selected(tmp_path: Path) -> None:
    rows = simple_rows()
    log: dict[str, Any] = {
        "fields": (
            Field("kind", "categorical", "item"),
            Field("age", "numeric", "user"),
            Field("hour", "categorical", "context"),
            Field("price", "numeric", "context"),
        ),
        "items": pl.DataFrame({"item": ["i0", "i1", "extra"], "kind": ["x", "y", "z"]}),
        "users": pl.DataFrame({"user": ["u1", "u0"], "age": [10.0, 30.0]}),
        "context": {
            "hour": [f"h{time}" for _, _, time in rows],
            "price": [float(row) for row in range(len(rows))],
        },
    }
    dataset = prepared(tmp_path / "out", rows, **log)

    items, users = dataset.vocabularies["item"], dataset.vocabularies["user"]
    kinds = dataset.vocabularies["kind"].decode(dataset.attributes["kind"][:, 0])
    by_item = dict(zip(items.values, kinds[FIRST_ID:], strict=True))
    assert by_item == {"i0": "x", "i1": "y"} | {f"i{k}": None for k in range(2, 9)}
    assert dataset.attributes["kind"][:2, 0].tolist() == [0, UNKNOWN]
    by_user = dict(zip(users.values, dataset.attributes["age"][FIRST_ID:], strict=True))
    assert (by_user["u0"], by_user["u1"], by_user["u5"]) == (30.0, 10.0, 20.0)
    age, hour = dataset.schema.fields[1:3]
    assert (age.mean, age.std) == (20.0, 10.0)
    assert hour.size == 3 + FIRST_ID  # hours 3 and 4 are never in train

    for split in (dataset.train, dataset.valid, dataset.test):
        time = split.columns["timestamp"]
        hours = dataset.vocabularies["hour"].decode(split.context["hour"]).to_list()
        assert hours == [f"h{t}" if t < 3 else None for t in time]
        user = users.decode(split.columns["user"])
        assert split.context["price"].tolist() == [
            5 * int(name[1:]) + t for name, t in zip(user, time, strict=True)
        ]

    few = prepared(tmp_path / "few", rows, {"fields": ["hour"]}, **log)
    assert [field.name for field in few.schema.fields] == ["hour"]
    assert prepared(tmp_path / "ids", rows, {"fields": []}, **log).schema.fields == ()


def _fails(rows: Any, values: dict[str, Any], match: str, **log: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        with pytest.raises((DataError, ConfigError), match=match):
            prepared(out, rows, values, **log)
        assert not list(Path(folder).iterdir())


LABELLED = [(f"u{u}", f"i{u % 3}", time, (u + time) % 2) for u in range(6) for time in range(4)]


@pytest.mark.parametrize(
    ("rows", "values", "match"),
    [
        ([], {}, "small: no rows"),
        (
            [("a", "b", 1)],
            {},
            r"valid and test would be empty \(1 rows.*3 rows at different times or more",
        ),
        ([("a", "b", 1), ("a", "c", 2)], {}, "split valid would be empty"),
        ([(*row[:3], 1) for row in LABELLED], {}, "drop the label column to have negatives"),
        ([(*row[:3], 0) for row in LABELLED], {}, r"every row is 0 \(no click\)"),
        ([(*row[:3], 2) for row in LABELLED], {}, "label, row 0: expected 0 or 1, got 2"),
        ([(*row[:3], None) for row in LABELLED], {}, "label, row 0: expected 0 or 1, got None"),
        ([(*row[:3], row[2] == 0) for row in LABELLED], {}, "valid holds 6 rows, all of them row"),
        ([("a", "same", t) for t in range(5)], {}, "one item only"),
        (
            [("a", f"i{t}", t) for t in range(5)],
            {},
            "train holds 3 rows, all of them clicks; .* every item that training rows click",
        ),
        (
            [("a", f"i{t}", t) for t in range(5)],
            {"negatives": {"train_items": "all"}},
            "valid holds 1 rows, all of them clicks; .* clicked every item of the log",
        ),
        ([(None, *row[1:]) for row in LABELLED], {}, "column user: expected Int64 or String"),
        ([*LABELLED, ("a", None, 1, 1)], {}, "column item: 1 nulls, the first in row 24"),
        ([*LABELLED, ("a", "b", None, 1)], {}, "column timestamp: 1 nulls, the first in row 24"),
        ([(1.5, *row[1:]) for row in LABELLED], {}, "column user: expected .*, got Float64"),
        (LABELLED, {"vocabulary": {"min_count": 9}}, "no user has 9 training rows; lower"),
        (
            LABELLED,
            {"split": {"until": 0}},
            "no rows before split.until = 0; the earliest .* is 1970-01-01",
        ),
        (LABELLED, {"fields": ["colour"]}, "no field 'colour'"),
        (
            [*simple_rows(), ("z", "i0", 10**15)],
            {"split": {"kind": "last-days", "days": 2}},
            r"valid would be empty .* largest are 27379.* \(1 rows\), 1970-01-05 \(6 rows\)",
        ),
        (
            simple_rows(),
            {"split": {"kind": "time", "valid_from": 3, "test_from": "1980-01-01"}},
            "test would be empty .* range from 1970-01-01 to 1970-01-05.* test_from = 1980-01-01",
        ),
    ],
)
def test_refusals_name_the_trouble(rows: Any, values: dict[str, Any], match: str) -> None:
    _fails(rows, values, match)


@pytest.mark.parametrize(
    ("log", "match"),
    [
        ({"fields": [Field("a", "numeric", "context")]}, "small: no column a; it has user, item"),
        ({"fields": [Field("item", "numeric", "user")]}, "field 'item': a name must be unique"),
        ({"fields": [Field("a/b", "numeric", "user")]}, "without slashes"),
        ({"fields": [Field("a", "numeric", s) for s in ("user", "item")]}, "must be unique"),
        ({"fields": [Field("a", "numeric", "user")]}, "the table of users has no such column"),
        (
            {
                "fields": [Field("a", "numeric", "item")],
                "items": pl.DataFrame({"item": ["i0", "i1", "i0"], "a": [1.0, 2.0, 3.0]}),
            },
            "column item: 'i0' stands in more than one row",
        ),
        (
            {
                "fields": [Field("a", "numeric", "item")],
                "items": pl.DataFrame({"item": [1], "a": [1.0]}),
            },
            "column item: expected String as in the rows, got Int64",
        ),
        (
            {
                "fields": [Field("a", "categories", "context")],
                "context": {"a": [["x"]] * len(LABELLED)},
            },
            "a context field holds one value a row",
        ),
    ],
)
def test_fields_that_do_not_fit_are_refused(log: dict[str, Any], match: str) -> None:
    _fails(LABELLED, {}, match, **log)


def test_the_log_suggests_and_the_user_decides() -> None:
    log = make_log(
        simple_rows(),
        protocol={
            "split": {"kind": "last-days", "days": 4, "ties": "order", "until": 9},
            "negatives": {"beta": 0.75},
        },
    )
    plain = merge_protocol(log, {})
    assert as_values(plain.split) == {
        "kind": "last-days",
        "days": 4,
        "ties": "order",
        "until": 9,
    }
    assert (plain.negatives.beta, plain.negatives.ratio) == (0.75, 1)
    some = merge_protocol(log, {"split": {"days": 2}, "negatives": {"ratio": 3}, "fields": []})
    assert (some.split.days, some.split.ties) == (2, "order")
    assert (some.negatives.beta, some.negatives.ratio, some.fields) == (0.75, 3, [])
    other = merge_protocol(log, {"split": {"kind": "last-interaction"}})
    assert as_values(other.split) == {"kind": "last-interaction", "ties": "order", "until": 9}
    with pytest.raises(ConfigError, match=r"negatives\.bta: unknown key; did you mean 'beta'"):
        merge_protocol(log, {"negatives": {"bta": 1}})


@pytest.mark.parametrize(
    "values",
    [{"beta": -1}, {"beta": float("nan")}, {"ratio": 0}, {"seed": -1}, {"train": "sometimes"}],
)
def test_negative_settings_have_bounds(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"negatives\."):
        build(PrepareSettings, {"negatives": values})


def test_settings_survive_the_manifest(tmp_path: Path) -> None:
    values = {"split": {"kind": "time", "valid_from": "1970-01-04", "test_from": 4}, "fields": []}
    dataset = prepared(tmp_path / "out", simple_rows(), values)

    assert dataset.manifest.settings["split"]["valid_from"] == "1970-01-04"
    assert build(PrepareSettings, dataset.manifest.settings) == build(PrepareSettings, values)


def test_the_same_origin_and_settings_are_not_prepared_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, out = make_log(simple_rows()), tmp_path / "out"
    origin = Origin("abc", {"kind": "table"})
    config = merge_protocol(log, {})
    prepare(log, config, out, origin=origin)
    before = (out / "manifest.json").stat()

    unread = dataclasses.replace(log, rows=pl.LazyFrame({"nothing": []}))
    with caplog.at_level("INFO"):
        assert prepare(unread, config, out, origin=origin) == out
    assert (out / "manifest.json").stat() == before
    assert "already prepared" in caplog.text
    assert open_dataset(out).manifest.source == {"kind": "table"}

    others = [
        (Origin("abd", {}), config),
        (origin, merge_protocol(log, {"negatives": {"seed": 1}})),
        (None, config),
    ]
    for other_origin, other_config in others:
        with pytest.raises(StorageError, match="other data or settings"):
            prepare(log, other_config, out, origin=other_origin)
    assert (out / "manifest.json").stat() == before
    prepare(log, others[1][1], out, origin=origin, overwrite=True)
    assert open_dataset(out).protocol["seed"] == 1


@pytest.mark.parametrize("same", [True, False])
def test_a_dataset_that_another_process_wrote_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    log, out = make_log(simple_rows()), tmp_path / "out"
    config = merge_protocol(log, {})
    inodes = []

    def write_after_the_other(*arguments: Any) -> Any:
        monkeypatch.setattr(module, "write_manifest", write_manifest)
        prepare(log, config, out, origin=Origin("abc" if same else "abd", {}))
        inodes.append((out / "manifest.json").stat().st_ino)
        return write_manifest(*arguments)

    monkeypatch.setattr(module, "write_manifest", write_after_the_other)
    if same:
        assert prepare(log, config, out, origin=Origin("abc", {})) == out
    else:
        with pytest.raises(StorageError, match="other data or settings"):
            prepare(log, config, out, origin=Origin("abc", {}))
    assert [(out / "manifest.json").stat().st_ino] == inodes
    assert list(tmp_path.iterdir()) == [out]


def test_a_dataset_without_an_origin_is_known_by_its_content(tmp_path: Path) -> None:
    first = prepared(tmp_path / "1", simple_rows()).manifest.fingerprint
    same = prepared(tmp_path / "2", simple_rows()).manifest.fingerprint
    other = prepared(tmp_path / "3", simple_rows(7)).manifest.fingerprint

    assert first == same != other


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_write_split", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "out", simple_rows())
    assert not list(tmp_path.iterdir())


def test_another_directory_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    log = make_log(simple_rows())

    for overwrite in (False, True):
        with pytest.raises(StorageError):
            prepare(log, merge_protocol(log, {}), tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]
