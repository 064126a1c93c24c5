"""However a log is cut into partitions and batches, its dataset is the slow one, byte for byte."""

import dataclasses
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqcl.click_log import ClickLog
from aqcl.errors import DataError
from aqcl.prepare import census, partitions
from aqcl.prepare.census import take_census
from aqcl.prepare.pipeline import merge_protocol, prepare
from aqcl.schema import Field
from aqcl.splits import SplitSettings
from tests.click_logs import FRAME, N_TIMES, SPLIT_SETTINGS, Row, make_log, random_rows
from tests.slow_prepare import slow_prepare

FIELDS = (
    Field("hour", "categorical", "context"),
    Field("kind", "categorical", "item"),
    Field("price", "numeric", "context"),
    Field("tags", "categories", "item"),
    Field("age", "numeric", "user"),
    Field("page", "categorical", "context"),
)


def _log(seed: int, *, labelled: bool, integers: bool = False, n_rows: int = 60) -> ClickLog:
    """Users of very unequal activity in no order, with ties, repeats and unknown values."""
    rng = np.random.default_rng(seed)
    users = np.concatenate([np.repeat([0, 1], len(FRAME)), rng.geometric(0.15, n_rows)])
    times = np.concatenate([FRAME, FRAME, rng.integers(0, N_TIMES, n_rows)])
    labels = np.concatenate([[1, 1, 1, 0, 0, 0], rng.integers(0, 2, n_rows)])
    items = rng.zipf(1.6, len(users)) % 20
    order = rng.permutation(len(users))
    name = (lambda n: n * 10**15 - 7) if integers else "{:x}🧴".format
    rows: list[tuple[Any, ...]] = [
        (name(int(users[k])), name(int(items[k])), int(times[k]), int(labels[k])) for k in order
    ]
    drawn = rng.integers(0, 9, (3, len(rows)))
    context = {
        "hour": [None if h == 8 else int(h) for h in drawn[0]],
        "price": [None if p == 8 else p / 7 + 1e6 for p in drawn[1]],
        "page": [None if p == 8 else f"p{p}" for p in drawn[2]],
    }
    some = sorted({row[1] for row in rows})[::2]
    return make_log(
        rows if labelled else [row[:3] for row in rows],
        fields=FIELDS,
        context=context,
        items=pl.DataFrame(
            {
                "item": some,
                "kind": [f"k{n % 3}" for n in range(len(some))],
                "tags": [["x", "y", "x"][: n % 4] for n in range(len(some))],
            }
        ),
        users=pl.DataFrame({"user": [name(1), name(3)], "age": [20.0, 33.3]}),
    )


def _content(folder: Path) -> dict[str, bytes]:
    """Of all files, with folders as empty ones."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


SIZES = ((10**6, 10**6), (40, 10**6), (1, 20), (25, 7))
"""Rows of a partition and of a batch: all at once, a partition for each user, and between."""


def _assert_same(
    log: ClickLog, values: dict[str, Any], sizes: Iterable[tuple[int, int]] = SIZES
) -> None:
    config = merge_protocol(log, values)
    with tempfile.TemporaryDirectory() as name:
        expected = _content(slow_prepare(log, config, Path(name) / "slow"))
        for number, (partition_rows, batch_rows) in enumerate(sizes):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(partitions, "PARTITION_ROWS", partition_rows)
                patch.setattr(census, "BATCH_ROWS", batch_rows)
                found = _content(prepare(log, config, Path(name) / str(number)))
            assert sorted(found) == sorted(expected)
            assert found["manifest.json"].decode() == expected["manifest.json"].decode()
            assert [path for path in found if found[path] != expected[path]] == []


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("ties", ["exclude", "order"])
@pytest.mark.parametrize("kind", sorted(SPLIT_SETTINGS))
def test_every_split_of_clicks_and_of_impressions(kind: str, ties: str, labelled: bool) -> None:
    values = {"split": {"kind": kind, "ties": ties, **SPLIT_SETTINGS[kind]}}
    _assert_same(_log(1, labelled=labelled), values)


@pytest.mark.parametrize(
    "values",
    [
        {"vocabulary": {"min_count": 2}},
        {"vocabulary": {"min_count": 5}, "split": {"kind": "last-days", "days": 4}},
        {"user_share": 0.7},
        {"split": {"until": N_TIMES - 2}},
        {"fields": ["page"]},
        {"fields": []},
        {"negatives": {"beta": 0.75, "ratio": 3, "seed": 5, "exclude": "all"}},
        {"negatives": {"train_items": "all"}, "split": {"kind": "last-days", "days": 4}},
        {"negatives": {"train": "resampled", "beta": 2}, "vocabulary": {"min_count": 3}},
    ],
)
def test_other_settings(values: dict[str, Any]) -> None:
    _assert_same(_log(2, labelled=True, integers=True), values, SIZES[2:])
    _assert_same(_log(2, labelled=False), values, SIZES[2:])


@settings(max_examples=15)
@given(random_rows(), st.sampled_from(sorted(SPLIT_SETTINGS)), st.integers(1, 9))
def test_any_rows(rows: list[Row], kind: str, size: int) -> None:
    values = {"split": {"kind": kind, **SPLIT_SETTINGS[kind]}, "vocabulary": {"min_count": 1}}
    clicks = [row[:3] for row in rows]
    _assert_same(make_log(clicks), values, [(size, size)])


def test_a_user_who_clicked_everything_leaves_no_gap_in_the_draws() -> None:
    rows = [("b", f"i{n}", n) for n in range(6)]
    rows += [(user, f"i{n % 3}", n) for user in ("a", "c", "d") for n in range(5)]
    _assert_same(make_log(rows), {"negatives": {"ratio": 2}}, [(4, 5)])


def test_timestamps_too_far_apart_for_one_key() -> None:
    rows = [(user, f"i{n}", time) for user in "ba" for n, time in enumerate((2**62, -(2**62), 0))]
    log = make_log([*rows, ("c", "i9", 0)], time_unit="position")
    _assert_same(log, {}, [(2, 2)])


def test_narrow_integers_with_unknown_values_in_some_batches() -> None:
    rows = [(5 + n % 4, 3 + n % 4 + n // 4 % 3, n) for n in range(40)]
    pages = [None if n == 33 else n % 3 for n in range(40)]
    fields = [Field("page", "categorical", "context")]
    _assert_same(make_log(rows, fields=fields, context={"page": pages}), {}, [(7, 8)])


def test_partitions_are_cut_at_users_and_near_the_size_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "PARTITION_ROWS", 20)
    log = _log(3, labelled=True, n_rows=100)
    found = take_census(log, [], SplitSettings())
    parts = partitions.write_partitions(found, [], tmp_path)
    rows = found.columns["user"].rows

    assert [code for part in parts for code in part.users] == list(range(len(rows)))
    sizes = [len(part.read()["user"]) for part in parts]
    assert sizes == [rows[slice(p.users.start, p.users.stop)].sum() for p in parts]
    assert len(parts) > 4
    assert max(sizes) < 20 + rows.max()


@pytest.mark.parametrize("more", [("u0", "new item"), ("new user", "i0"), ("u0", "i0"), None])
@pytest.mark.parametrize("integers", [False, True])
def test_a_log_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, str] | None, integers: bool
) -> None:
    """The second time there are more rows than the first, or one less."""
    monkeypatch.setattr(census, "BATCH_ROWS", 10)
    values = {"u0": 3, "new user": 99, "i0": 5, "new item": 77}
    rows: list[tuple[Any, ...]] = [(f"u{n % 3}", f"i{n % 4}", n) for n in range(50)]
    added: list[tuple[Any, ...]] = [] if more is None else [(*more, 60)]
    if integers:
        rows = [(int(user[1]) + 3, int(item[1]) + 5, time) for user, item, time in rows]
        added = [(values[user], values[item], time) for user, item, time in added]
    found = take_census(make_log(rows), [], SplitSettings())
    again = make_log([*rows, *added] if added else rows[:-1]).rows
    changed = dataclasses.replace(found, rows=again.select("user", "item", "timestamp"))

    with pytest.raises(DataError, match="other rows, users or items the second time"):
        partitions.write_partitions(changed, [], tmp_path)


def test_a_batch_without_rows_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = take_census(_log(4, labelled=False), [], SplitSettings())
    whole = found.rows.collect()
    monkeypatch.setattr(partitions, "batches", lambda _: iter([whole[:0], whole, whole[:0]]))

    parts = partitions.write_partitions(found, [], tmp_path)

    assert sum(len(part.read()["user"]) for part in parts) == len(whole)
