from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqcl import bootstrap, metrics
from aqcl.bootstrap import (
    affordable,
    interval,
    one_training,
    rank,
    resample_seeds,
    resample_users,
    seed_spread,
    seed_variance,
)
from aqcl.predictions import Predictions
from aqcl.streams import numpy_stream

Array = npt.NDArray[Any]


def _predictions(user: Array, label: Array, score: Array) -> Predictions:
    zeros = np.zeros(len(user), dtype=np.int64)
    return Predictions(user=user, item=zeros, label=label, activity=zeros, score=score)


def _random(n_users: int, seed: int, n_rows: int = 200) -> Predictions:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n_rows)
    score = (rng.random(n_rows) * 0.7 + 0.3 * label).round(2)
    return _predictions(rng.integers(0, n_users, n_rows), label, score)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 5)), max_size=40),
    st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=3),
)
def test_a_ranking_gives_the_weighted_auc_with_ties(
    rows: list[tuple[int, int, int]], weights: list[list[int]]
) -> None:
    user, label, score = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    predictions = _predictions(user, label, score / 5)
    mask = score != 3
    ours = rank(predictions, user, [mask])[0].auc(np.array(weights, dtype=np.float64))
    for got, weight in zip(ours, np.array(weights), strict=True):
        expected = metrics.auc(label[mask], score[mask], weight[user[mask]])
        assert got == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_resampled_users_keep_all_their_rows() -> None:
    """Each replicate equals the AUC of a log in which drawn users stand as often as drawn."""
    run = _random(n_users=7, seed=1)
    everyone = np.ones(len(run), dtype=np.bool_)
    _, resampled = resample_users([run], [everyone], 20, seed=5)
    stream = numpy_stream(5, "bootstrap")
    users = np.unique(run.user)
    for got in resampled[0, 0]:
        drawn = users[stream.integers(len(users), size=len(users), dtype=np.int32)]
        rows = np.concatenate([np.flatnonzero(run.user == user) for user in drawn])
        assert got == pytest.approx(metrics.auc(run.label[rows], run.score[rows]), abs=1e-12)


def test_point_values_are_the_plain_auc_of_each_mask() -> None:
    runs = [_random(n_users=9, seed=seed) for seed in (1, 1)]
    masks = [np.ones(200, dtype=np.bool_), runs[0].user < 4]
    aucs, resampled = resample_users(runs, masks, 3, seed=0)
    assert resampled.shape == (2, 2, 3)
    for mask, got in zip(masks, aucs[0], strict=True):
        assert got == metrics.auc(runs[0].label[mask], runs[0].score[mask])
    np.testing.assert_array_equal(resampled[0], resampled[1])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = _random(n_users=30, seed=2)
    masks = [np.ones(len(run), dtype=np.bool_)]
    whole = resample_users([run], masks, 25, seed=0)[1]
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 1)
    np.testing.assert_array_equal(resample_users([run], masks, 25, seed=0)[1], whole)


def test_seeds_of_the_stream_decide() -> None:
    run = _random(n_users=30, seed=2)
    masks = [np.ones(len(run), dtype=np.bool_)]
    first, again, other = (resample_users([run], masks, 5, seed=s)[1] for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_resampled_seeds_are_spread_means_of_drawn_runs_and_shared_by_equal_counts() -> None:
    aucs = np.repeat(np.array([0.0, 1.0, 10.0])[:, None, None], 400, axis=2)
    means = resample_seeds(aucs, seed=3)
    assert means.shape == (1, 400)
    drawn = 11 / 3 + (means[0] - 11 / 3) / seed_spread(3)
    possible = {(a + b + c) / 3 for a in (0, 1, 10) for b in (0, 1, 10) for c in (0, 1, 10)}
    assert {round(m, 9) for m in drawn} <= {round(p, 9) for p in possible}
    assert means.mean() == pytest.approx(11 / 3, abs=1)
    np.testing.assert_allclose(resample_seeds(aucs + 2, seed=3), means + 2)


def test_one_training_scatters_as_those_it_is_taken_for() -> None:
    aucs = np.array([0.1, 0.3, 0.2, 0.6])
    drawn = one_training(aucs, 20_000, seed=0)
    assert drawn.mean() == pytest.approx(0, abs=0.02)
    assert drawn.var() == pytest.approx(len(aucs) * seed_variance(aucs), rel=0.03)
    means = resample_seeds(np.repeat(aucs[:, None, None], 20_000, axis=2), seed=0)[0]
    assert abs(np.corrcoef(drawn, means)[0, 1]) < 0.03


def test_two_seeds_are_spread_as_far_as_student_has_it() -> None:
    # t of 97.5% from tables: 12.706, 4.303, 2.776, 2.262 with 1, 2, 4, 9 degrees of freedom
    for n_seeds, t in ((2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262)):
        expected = t / 1.960 * (n_seeds / (n_seeds - 1)) ** 0.5
        assert seed_spread(n_seeds) == pytest.approx(expected, rel=1e-3)
    assert seed_spread(1) == 1


def test_a_single_seed_is_itself() -> None:
    aucs = np.random.default_rng(0).random((1, 2, 5))
    np.testing.assert_array_equal(resample_seeds(aucs, seed=0), aucs[0])


def test_the_interval_holds_95_percent() -> None:
    assert interval(np.arange(1001.0)) == (25, 975)
    assert interval(np.array([0.5, np.nan])) == (None, None)
    assert interval(np.empty(0)) == (None, None)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        shift = rng.normal(size=100)  # rows of a user resemble each other
        label = np.tile([0, 1], 100)
        logit = np.repeat(shift, 2) + rng.normal(size=200) + label
        run = _predictions(np.repeat(np.arange(100), 2), label, 1 / (1 + np.exp(-logit)))
        _, resampled = resample_users([run], [np.ones(200, dtype=np.bool_)], 200, seed=seed)
        low, high = interval(resampled[0, 0])
        assert low is not None
        assert high is not None
        covered += low < 0.69146 < high  # Phi(1 / sqrt(var + var)), var = 2
    assert 88 <= covered <= 99


def test_large_splits_take_fewer_resamples() -> None:
    assert affordable(1000, 1_000_000) == 1000
    assert affordable(1000, 1_000_001) == 200
    assert affordable(50, 1_000_001) == 50


@pytest.mark.parametrize("cells", [1, 7, 50, 600, 10**6])
def test_no_size_of_chunk_changes_an_auc(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks smaller than a run of ties too, on runs that share resamples."""
    runs = [_random(n_users=30, seed=seed) for seed in (2, 3)]
    masks = [np.ones(200, dtype=np.bool_), runs[0].user < 11]
    runs[1] = _predictions(runs[0].user, runs[0].label, runs[1].score.round(1))
    whole = resample_users(runs, masks, 10, seed=0)
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", cells)
    for ours, theirs in zip(resample_users(runs, masks, 10, seed=0), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float64])
def test_the_type_of_the_weights_changes_nothing(dtype: type) -> None:
    run = _random(n_users=30, seed=2)
    (ranking,) = rank(run, run.user, [np.ones(200, dtype=np.bool_)])
    weights = np.random.default_rng(0).integers(0, 200, (4, 30))
    wide = ranking.auc(weights.astype(np.float64))
    np.testing.assert_array_equal(ranking.auc(weights.astype(dtype)), wide)
    for got, weight in zip(wide, weights, strict=True):
        expected = metrics.auc(run.label, run.score, weight[run.user])
        assert got == pytest.approx(expected, abs=1e-12)


def test_resamples_equal_a_weighted_auc_each_on_gaps_in_the_ids() -> None:
    run = _random(n_users=9, seed=4)
    sparse = _predictions(run.user * 10**12 + 5, run.label, run.score)
    masks = [run.activity == 0]
    ours = resample_users([sparse], masks, 6, seed=1)[1][0, 0]
    np.testing.assert_array_equal(ours, resample_users([run], masks, 6, seed=1)[1][0, 0])
    stream = numpy_stream(1, "bootstrap")
    for got in ours:
        times = np.bincount(stream.integers(9, size=9, dtype=np.int32), minlength=9)
        expected = metrics.auc(run.label, run.score, times[run.user])
        assert got == pytest.approx(expected, abs=1e-12)
