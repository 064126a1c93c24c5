"""Small click logs for the tests of preparation and of datasets."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from aqcl.click_log import ClickLog, TimeUnit
from aqcl.dataset import Dataset, Split, open_dataset
from aqcl.prepare.pipeline import merge_protocol, prepare
from aqcl.schema import Field

VALID_FROM, TEST_FROM, N_TIMES = 6, 8, 10
SPLIT_SETTINGS: dict[str, dict[str, Any]] = {
    "last-interaction": {},
    "last-day": {},
    "last-days": {"days": N_TIMES - VALID_FROM},
    "time": {"valid_from": VALID_FROM, "test_from": TEST_FROM},
}
FRAME = [0, VALID_FROM, N_TIMES - 1]
"""A user with a row at each of these times has one in every split of every kind."""

Row = tuple[str, str, int, int]
"""User, item, timestamp, label."""
Sample = tuple[str, int, int, tuple[str, ...]]
"""Item, timestamp, label, history."""


def make_log(
    rows: Sequence[tuple[Any, ...]],
    *,
    time_unit: TimeUnit = "day",
    fields: Sequence[Field] = (),
    context: dict[str, Any] | None = None,
    items: pl.DataFrame | None = None,
    users: pl.DataFrame | None = None,
    protocol: dict[str, Any] | None = None,
) -> ClickLog:
    """A log of (user, item, timestamp) or (user, item, timestamp, label) rows."""
    names = ("user", "item", "timestamp", "label")[: len(rows[0]) if rows else 3]
    columns = {name: [row[k] for row in rows] for k, name in enumerate(names)}
    types = {"timestamp": pl.Int64, "label": pl.Int8}
    if not rows:
        types |= {"user": pl.Int64, "item": pl.Int64}
    overrides = {name: dtype for name, dtype in types.items() if name in names}
    return ClickLog(
        name="small",
        rows=pl.DataFrame(columns | (context or {}), schema_overrides=overrides).lazy(),
        time_unit=time_unit,
        fields=tuple(fields),
        users=users,
        items=items,
        protocol=protocol or {},
        notes=("a note",),
    )


def simple_rows(n_users: int = 6, n_items: int = 9, n_each: int = 5) -> list[tuple[str, str, int]]:
    """Users with distinct moments and items, each with the same number of rows."""
    return [
        (f"u{user}", f"i{(user * 2 + step) % n_items}", step)
        for user in range(n_users)
        for step in range(n_each)
    ]


@st.composite
def random_rows(draw: st.DrawFn) -> list[Row]:
    """Rows with ties, repeats and users with few rows, that every kind of split accepts."""
    row = st.tuples(
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from(["x", "y", "z", "w", "🧴"]),
        st.integers(0, N_TIMES - 1),
        st.integers(0, 1),
    )
    frame = [(user, user, time, label) for user, label in (("f", 1), ("g", 0)) for time in FRAME]
    return draw(st.permutations(frame + draw(st.lists(row, max_size=25))))


def prepared(out: Path, rows: Any, values: dict[str, Any] | None = None, **log: Any) -> Dataset:
    """The dataset of a log of `make_log`, written and opened."""
    made = make_log(rows, **log)
    return open_dataset(prepare(made, merge_protocol(made, values or {}), out), verify=True)


def samples_by_user(dataset: Dataset, split: Split) -> dict[str, list[Sample]]:
    """The samples of an opened split by user, in raw values."""
    users = dataset.vocabularies["user"].decode(split.columns["user"]).to_list()
    items = dataset.vocabularies["item"].decode(split.columns["item"]).to_list()
    batch = split.batch(np.arange(len(split)), max_history=1000)
    clicks = dataset.vocabularies["item"].decode(batch.history.numpy()).to_list()
    offsets, times = batch.offsets.tolist(), split.columns["timestamp"].tolist()
    labels, activity = split.columns["label"].tolist(), batch.activity.tolist()
    found = collections.defaultdict(list)
    for row, user in enumerate(users):
        history = tuple(clicks[offsets[row] : offsets[row + 1]])
        assert activity[row] == len(history)
        found[user].append((items[row], times[row], labels[row], history))
    return found
