"""Opened datasets: batches cut by index, orders, redrawn negatives, damage."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqcl import negatives
from aqcl.batch import Batch
from aqcl.click_log import TimeUnit
from aqcl.dataset import Dataset, Split, batch_bounds, open_dataset, steps_per_epoch
from aqcl.errors import DataError, StorageError
from aqcl.prepare.pipeline import merge_protocol, prepare
from aqcl.schema import Field
from aqcl.splits import SPLITS
from tests.click_logs import Row, make_log, random_rows, simple_rows


def _dataset(folder: Path, rows: Any = None, **values: Any) -> Dataset:
    hours = pl.Series([f"h{row[2]}" for row in rows or simple_rows()])
    log = make_log(
        rows or simple_rows(),
        fields=(
            Field("hour", "categorical", "context"),
            Field("price", "numeric", "context"),
            Field("kind", "categorical", "item"),
        ),
        context={"hour": hours, "price": pl.Series(range(len(hours)), dtype=pl.Float64)},
        items=pl.DataFrame({"item": ["i0", "i1"], "kind": ["x", "y"]}),
    )
    return open_dataset(prepare(log, merge_protocol(log, values), folder / "dataset"))


def _assert_row(split: Split, batch: Batch, place: int, row: int, max_history: int) -> None:
    column = {name: int(values[row]) for name, values in split.columns.items()}
    start, length = column["history_start"], column["history_length"]
    history = split.clicks[start : start + length].tolist()
    own = slice(int(batch.offsets[place]), int(batch.offsets[place + 1]))
    assert int(batch.user[place]) == column["user"]
    assert int(batch.item[place]) == column["item"]
    assert float(batch.label[place]) == column["label"]
    assert float(batch.activity[place]) == length
    assert batch.history[own].tolist() == history[max(0, length - max_history) :]
    assert set(batch.segment[own].tolist()) <= {place}
    assert int(batch.context["hour"][place]) == split.context["hour"][row]
    assert float(batch.context["price"][place]) == split.context["price"][row]


@settings(max_examples=30)
@given(random_rows(), st.integers(0, 4), st.data())
def test_a_batch_equals_its_rows_read_one_by_one(
    rows: list[Row], max_history: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        split = _dataset(Path(folder), rows).train
        asked = data.draw(st.lists(st.integers(0, len(split) - 1), max_size=6))

        batch = split.batch(np.array(asked, dtype=np.int64), max_history)

        assert len(batch) == len(asked)
        assert int(batch.offsets[-1]) == len(batch.history) == len(batch.segment)
        for place, row in enumerate(asked):
            _assert_row(split, batch, place, row, max_history)


def test_histories_keep_their_latest_clicks_in_order(tmp_path: Path) -> None:
    """Each user clicks the items i0, i1, ... in turn, and the last one tests."""
    dataset = _dataset(tmp_path, [(f"u{n}", f"i{k}", k) for n in range(3, 7) for k in range(n)])
    positives = np.flatnonzero(dataset.test.columns["label"] == 1)

    batch = dataset.test.batch(positives, max_history=3)

    names = dataset.vocabularies["item"].decode(batch.history.numpy()).to_list()
    lasts = [["i0", "i1"], ["i0", "i1", "i2"], ["i1", "i2", "i3"], ["i2", "i3", "i4"]]
    assert names == [name for own in lasts for name in own]
    assert batch.offsets.tolist() == [0, 2, 5, 8, 11]
    assert batch.segment.tolist() == [0] * 2 + [1] * 3 + [2] * 3 + [3] * 3
    assert batch.activity.tolist() == [2, 3, 4, 5]


def test_batches_hold_what_models_expect(tmp_path: Path) -> None:
    batch = _dataset(tmp_path).train.batch(np.arange(7), 50)

    for column in (batch.user, batch.item, batch.history, batch.offsets, batch.segment):
        assert column.dtype == torch.int64
    assert batch.label.dtype == batch.activity.dtype == torch.float32
    assert batch.context["hour"].dtype == torch.int64
    assert batch.context["price"].dtype == torch.float32


def test_a_batch_owns_its_values(tmp_path: Path) -> None:
    split = _dataset(tmp_path).train
    before = split.columns["user"].copy()

    split.batch(np.arange(4), 50).user.zero_()

    assert np.array_equal(split.columns["user"], before)


def test_batches_pass_over_all_rows_once_in_order(tmp_path: Path) -> None:
    split = _dataset(tmp_path).train

    parts = list(split.batches(batch_size=5, max_history=3))

    whole = split.batch(np.arange(len(split)), 3)
    assert [len(part) for part in parts] == np.diff(batch_bounds(len(split), 5)).tolist()
    assert torch.equal(torch.cat([part.item for part in parts]), whole.item)
    assert torch.equal(torch.cat([part.history for part in parts]), whole.history)


def test_what_is_evaluated_is_stored(tmp_path: Path) -> None:
    """Negatives that a training draws anew are those of the columns when rows are scored."""
    rows = [(f"u{u}", f"i{(u + 3 * t) % 11}", t) for u in range(30) for t in range(6)]
    drawn = {"train": "resampled", "seed": 5}
    split = _dataset(tmp_path, rows, negatives=drawn).train
    scored = torch.cat([batch.item for batch in split.batches(7, 3)])
    assert scored.tolist() == split.columns["item"].tolist()
    assert scored.tolist() != split.batch(np.arange(len(split)), 3).item.tolist()


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_batches_are_few_and_nearly_equal(n_rows: int, batch_size: int) -> None:
    bounds = batch_bounds(n_rows, batch_size)
    sizes = np.diff(bounds)

    assert (bounds[0], bounds[-1]) == (0, n_rows)
    assert len(sizes) == steps_per_epoch(n_rows, batch_size) == -(-n_rows // batch_size)
    if n_rows:
        assert sizes.max() <= batch_size
        assert sizes.max() - sizes.min() <= 1


def test_orders_are_permutations_of_seed_and_epoch(tmp_path: Path) -> None:
    split = _dataset(tmp_path).train
    orders = {key: split.order(*key)[:].tolist() for key in [(0, 0), (0, 1), (1, 0)]}

    assert all(sorted(order) == list(range(len(split))) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 3
    assert split.order(0, 1)[:].tolist() == orders[0, 1]


def test_row_numbers_of_either_size_cut_the_same_batch(tmp_path: Path) -> None:
    split = _dataset(tmp_path, negatives={"train": "resampled"}).train
    short = split.order(0, 0)[:]

    first, second = (split.batch(rows, 5, epoch=3) for rows in (short, short.astype(np.int64)))

    assert torch.equal(first.item, second.item)
    assert torch.equal(first.history, second.history)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones(4, dtype=bool), "expected numbers of samples, got bool; np.flatnonzero"),
        (np.array([0.0, 1.0]), "expected numbers of samples, got float64"),
        (np.array([0, -1]), "expected numbers from 0 to .*, got -1 to 0"),
        (np.array([3, 10**6]), "expected numbers from 0 to .*, got 3 to 1000000"),
    ],
)
def test_what_is_no_number_of_a_sample_is_refused(
    tmp_path: Path, rows: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        _dataset(tmp_path).train.batch(rows, 5)


def test_frozen_negatives_are_the_stored_ones_in_every_epoch(tmp_path: Path) -> None:
    split = _dataset(tmp_path).train
    rows = np.arange(len(split))

    for epoch in (0, 1):
        assert split.batch(rows, 5, epoch).item.tolist() == split.columns["item"].tolist()


@pytest.mark.parametrize("exclude", ["train", "all"])
def test_resampled_negatives_are_new_and_legal(tmp_path: Path, exclude: str) -> None:
    rows = simple_rows(n_users=60, n_items=30)
    dataset = _dataset(
        tmp_path, rows, negatives={"train": "resampled", "exclude": exclude, "ratio": 2}
    )
    split = dataset.train
    positive = split.columns["label"] == 1
    users, items = (dataset.vocabularies[name] for name in ("user", "item"))
    banned = {
        (user, item)
        for user, item, time in rows
        if exclude == "all" or time < 3  # times 3 and 4 are valid and test
    }
    epochs = [split.batch(np.arange(len(split)), 5, epoch) for epoch in range(3)]

    stored = split.columns["item"]
    for batch in epochs:
        item = batch.item.numpy()
        assert np.array_equal(item[positive], stored[positive])
        raw_users = users.decode(batch.user.numpy()[~positive])
        raw_items = items.decode(item[~positive])
        assert None not in raw_items
        assert not banned & set(zip(raw_users, raw_items, strict=True))
    for first, second in ((0, 1), (1, 2)):
        same = (epochs[first].item == epochs[second].item).numpy()[~positive]
        assert same.mean() < 0.2


def test_a_redrawn_negative_depends_on_its_row_alone(tmp_path: Path) -> None:
    split = _dataset(tmp_path, negatives={"train": "resampled"}).train
    whole = split.batch(np.arange(len(split)), 5, epoch=3).item
    rows = split.order(0, 0)

    assert torch.equal(split.batch(rows[:7], 5, epoch=3).item, whole[rows[:7]])


def test_held_out_negatives_are_never_redrawn(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, negatives={"train": "resampled"})

    for split in (dataset.valid, dataset.test):
        items = split.batch(np.arange(len(split)), 5, epoch=4).item
        assert items.tolist() == split.columns["item"].tolist()


def test_the_stored_tables_are_those_of_the_schema(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, negatives={"beta": 0.5})

    assert set(dataset.vocabularies) == {"user", "item", "hour", "kind"}
    assert set(dataset.attributes) == {"kind"}
    assert len(dataset.attributes["kind"]) == dataset.schema.n_item_entities
    assert dataset.item_count.sum() == len(dataset.train) / 2
    cdf = np.load(dataset.path / "negative_cdf.npy")
    weights = negatives.cumulative_weights(dataset.item_count, 0.5, clicked=True)
    assert np.array_equal(cdf, weights)
    assert not dataset.clicks.flags.writeable


def test_test_rows_are_not_read_until_asked(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    for file in (dataset.path / "test").iterdir():
        file.unlink()

    assert len(dataset.train)
    assert len(dataset.valid)
    with pytest.raises(StorageError, match=r"test/user\.npy: cannot be read"):
        _ = dataset.test


@pytest.mark.parametrize("name", [*(f"{split}/item.npy" for split in SPLITS), "clicks.npy"])
def test_damage_is_found_on_opening(tmp_path: Path, name: str) -> None:
    path = _dataset(tmp_path).path
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:-1])
    with pytest.raises(StorageError, match=f"{name}: expected {len(content)} bytes"):
        open_dataset(path)
    (path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StorageError, match=f"{name}: the checksum differs"):
        open_dataset(path, verify=True)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    np.save(dataset.path / "clicks.npy", np.array([{}], dtype=object), allow_pickle=True)

    with pytest.raises(StorageError, match=r"clicks\.npy: cannot be read"):
        _ = dataset.clicks


@pytest.mark.parametrize(
    ("time_unit", "dates"),
    [
        ("day", {"all": (1, 5), "train": (1, 3), "valid": (4, 4), "test": (5, 5)}),
        ("second", dict.fromkeys(("all", "train", "valid", "test"), (1, 1))),
        ("position", {}),
    ],
)
def test_the_dates_of_a_dataset(
    tmp_path: Path, time_unit: TimeUnit, dates: dict[str, tuple[int, int]]
) -> None:
    log = make_log(simple_rows(), time_unit=time_unit)
    found = open_dataset(prepare(log, merge_protocol(log, {}), tmp_path / "out")).dates()
    assert found == {
        name: (f"1970-01-0{first}", f"1970-01-0{last}") for name, (first, last) in dates.items()
    }
