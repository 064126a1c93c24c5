"""Columns in temporary files, and that evaluating many rows takes no more memory than few."""

import errno
import tempfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aqcl import bootstrap, metrics, spill
from aqcl.activity import user_groups
from aqcl.bootstrap import resample_users
from aqcl.comparison import compare
from aqcl.errors import DataError, StorageError
from aqcl.evaluate import evaluate, group_masks
from aqcl.numbering import count_users, number_users, rows_by_score, rows_by_user
from aqcl.predictions import Predictions, read_predictions
from aqcl.spill import Spill, failures, made, partition

THRESHOLDS = (2, 6)


@pytest.fixture
def few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if any column were long."""
    monkeypatch.setattr(spill, "CHUNK_ROWS", 7)
    monkeypatch.setattr(spill, "KEPT_BYTES", 0)


def made_predictions(
    n_rows: int, seed: int = 0, *, ties: bool = True, probability: bool = True
) -> Predictions:
    rng = np.random.default_rng(seed)
    user = rng.integers(0, max(1, n_rows // 9), n_rows)
    label = (rng.random(n_rows) < 0.3).astype(np.int8)
    score = 0.7 * rng.random(n_rows) + 0.3 * label
    return Predictions(
        user=user,
        item=rng.integers(0, 50, n_rows),
        label=label,
        activity=user % 11,
        score=score.round(2) if ties else score,
        is_probability=probability,
    )


def mapped(column: npt.NDArray[Any]) -> bool:
    base: Any = column
    while isinstance(base, np.ndarray) and base.base is not None:
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return isinstance(base, np.memmap)


@pytest.mark.parametrize("kept", [0, 40, 10**6])
def test_a_column_is_what_was_put_into_it(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "KEPT_BYTES", kept)
    column = Spill(np.int32)
    for size in (0, 3, 1, 0, 20):
        column.append(np.arange(size))
    found = column.array()
    assert found.tolist() == [0, 1, 2, 0, *range(20)]
    assert found.dtype == np.int32
    assert mapped(found) == (kept < 96)


@pytest.mark.parametrize("kept", [0, 40])
def test_a_column_of_nothing_is_empty(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "KEPT_BYTES", kept)
    assert Spill(np.int8).array().tolist() == []
    column = Spill(np.float64)
    column.append(np.empty(0))
    assert column.array().shape == (0,)
    assert made(np.bool_, 0, lambda _: pytest.fail("there is no chunk")).dtype == np.bool_


def test_no_file_is_left_and_none_can_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "KEPT_BYTES", 0)
    monkeypatch.setattr(spill, "LASTING_PLACE", tmp_path)
    monkeypatch.delenv("TMPDIR", raising=False)
    column = Spill(np.int64)
    column.append(np.arange(5))
    assert not list(tmp_path.iterdir())
    assert column.array().sum() == 10


def test_a_full_disk_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spill, "KEPT_BYTES", 0)
    monkeypatch.setattr(spill, "LASTING_PLACE", tmp_path)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(StorageError, match=r"no space left for a temporary file of 3 rows.*TMPDIR"):
        Spill(np.int64).append(np.arange(3))


@pytest.mark.usefixtures("few_rows_at_a_time")
@pytest.mark.parametrize("n_rows", [0, 1, 7, 100])
def test_every_row_is_in_its_part(n_rows: int) -> None:
    part = np.random.default_rng(0).integers(0, 3, n_rows)
    found = [*partition(n_rows, 4, lambda chunk: part[chunk], np.int32)]
    assert [rows.tolist() for rows in found] == [
        np.flatnonzero(part == p).tolist() for p in range(4)
    ]


@pytest.mark.usefixtures("few_rows_at_a_time")
def test_what_does_not_hold_is_counted_and_the_first_is_named() -> None:
    values = np.arange(40)
    assert failures(40, lambda chunk: values[chunk] % 19 != 18) == (2, 18)
    assert failures(40, lambda chunk: values[chunk] >= 0) == (0, -1)


@pytest.mark.usefixtures("few_rows_at_a_time")
@pytest.mark.parametrize("digits", [0, 1, 12])
@pytest.mark.parametrize("n_rows", [0, 1, 8, 300])
def test_scores_ascend_over_parts_that_divide_no_ties(digits: int, n_rows: int) -> None:
    score = np.random.default_rng(1).random(n_rows).round(digits)
    parts = [rows for rows in rows_by_score(score) if len(rows) or n_rows == 0]
    order = np.concatenate(parts)
    assert sorted(order.tolist()) == list(range(n_rows))
    assert (np.diff(score[order]) >= 0).all()
    ends = [(score[a[-1]], score[b[0]]) for a, b in pairwise(parts)]
    assert all(last < first for last, first in ends)
    assert len(parts) > 1 or digits == 0 or n_rows < 8


@pytest.mark.usefixtures("few_rows_at_a_time")
@pytest.mark.parametrize("n_users", [1, 4, 60])
def test_the_rows_of_a_user_are_in_one_part(n_users: int) -> None:
    user = np.random.default_rng(2).integers(0, n_users, 200) ** 2 // n_users
    number, n_known = number_users(user)
    counts = count_users(number, n_known)
    assert counts.tolist() == np.bincount(number).tolist()
    parts = [*rows_by_user(number, counts)]
    assert [first for first, _, _ in parts] == [0, *(end for _, end, _ in parts[:-1])]
    assert parts[-1][1] == n_known
    for first, end, rows in parts:
        assert rows.tolist() == np.flatnonzero((number >= first) & (number < end)).tolist()
    assert len(parts) > 1 or n_users < 4


@pytest.mark.parametrize("n_rows", [0, 1, 8, 400])
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("probability", [True, False])
def test_an_evaluation_is_the_same_in_any_parts(
    n_rows: int, ties: bool, probability: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = made_predictions(n_rows, ties=ties, probability=probability)
    whole = evaluate(predictions, THRESHOLDS, 20)
    monkeypatch.setattr(spill, "CHUNK_ROWS", 7)
    monkeypatch.setattr(spill, "KEPT_BYTES", 0)
    parts = evaluate(predictions, THRESHOLDS, 20)
    for ours, theirs in zip(parts.groups, whole.groups, strict=True):
        # Ties are in any order, and with them what is summed.
        error = theirs.calibration_error
        close = None if error is None else pytest.approx(error, rel=1e-13)
        assert ours.calibration_error == close
        assert replace(ours, calibration_error=error) == theirs


def test_resampled_aucs_are_the_same_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [made_predictions(500, seed) for seed in (3, 3)]
    runs[1] = made_predictions(500, 3, ties=False)
    masks = [*group_masks(runs[0], THRESHOLDS).values()]
    whole = resample_users(runs, masks, 30, seed=0)
    auc = metrics.auc(runs[0].label, runs[0].score)
    table = compare({"a": runs[:1], "b": runs[1:]}, "a", THRESHOLDS, 30).to_json()
    groups = user_groups(runs[0].user, runs[0].activity, THRESHOLDS)
    monkeypatch.setattr(spill, "CHUNK_ROWS", 7)
    monkeypatch.setattr(spill, "KEPT_BYTES", 0)
    for ours, theirs in zip(resample_users(runs, masks, 30, seed=0), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert metrics.auc(runs[0].label, runs[0].score) == auc
    assert compare({"a": runs[:1], "b": runs[1:]}, "a", THRESHOLDS, 30).to_json() == table
    np.testing.assert_array_equal(user_groups(runs[0].user, runs[0].activity, THRESHOLDS), groups)


@pytest.mark.usefixtures("few_rows_at_a_time")
def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    predictions = made_predictions(100)
    predictions.write(tmp_path / "rows.parquet")
    found = read_predictions(tmp_path / "rows.parquet")
    assert mapped(found.user)
    assert mapped(found.score)
    for name, column in vars(predictions).items():
        np.testing.assert_array_equal(getattr(found, name), column)


@pytest.mark.usefixtures("few_rows_at_a_time")
def test_wrong_rows_are_named_wherever_they_are() -> None:
    predictions = made_predictions(50)
    label = predictions.label.copy()
    label[[31, 40]] = 2
    with pytest.raises(DataError, match=r"column label, row 31: .* 2 of 50 rows are wrong"):
        Predictions(predictions.user, predictions.item, label, predictions.user, predictions.score)
    with pytest.raises(DataError, match=r"label, row 31: expected 0 or 1, got 2"):
        metrics.auc(label, predictions.score)


def on_disk(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return made(column.dtype, len(column), lambda chunk: column[chunk])


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_many_times_the_rows_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many users, whose table may grow, and with hardly a tie, which no part divides."""
    monkeypatch.setattr(spill, "CHUNK_ROWS", 2**13)
    monkeypatch.setattr(spill, "KEPT_BYTES", 2**12)
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 2**13)
    peaks = []
    for n_rows in (2**16, 21 * 2**16):
        drawn = made_predictions(n_rows, ties=False)
        user, item, score = on_disk(drawn.user % 1000), on_disk(drawn.item), on_disk(drawn.score)
        label, activity = on_disk(drawn.label), on_disk(drawn.activity)
        del drawn
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        predictions = Predictions(user, item, label, activity, score)
        assert mapped(predictions.score)
        evaluate(predictions, THRESHOLDS, 1)
        metrics.auc(predictions.label, predictions.score)
        _, peak = tracemalloc.get_traced_memory()
        peaks.append(peak - before)
    added = (peaks[1] - peaks[0]) / (20 * 2**16)
    assert added < 0.9, "bytes a row: not even a flag"
