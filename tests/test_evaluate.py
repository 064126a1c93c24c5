import json
from dataclasses import replace

import numpy as np
import pytest

from aqcl import metrics
from aqcl.activity import GROUPS, user_groups
from aqcl.errors import DataError
from aqcl.evaluate import ALL, Evaluation, auc_by_activity, evaluate
from aqcl.predictions import Predictions
from tests.evaluated_runs import THRESHOLDS, made_run


def test_every_group_is_measured_on_its_own_rows() -> None:
    run = made_run(1.0, seed=0)
    result = evaluate(run, THRESHOLDS, replicates=50)
    groups = user_groups(run.user, run.activity, THRESHOLDS)
    assert [group.group for group in result.groups] == [ALL, *GROUPS]
    for g, name in enumerate((ALL, *GROUPS), start=-1):
        mask = groups == g if g >= 0 else np.ones(len(run), dtype=np.bool_)
        user, label, score = run.user[mask], run.label[mask], run.score[mask]
        got = result[name]
        assert (got.rows, got.users, got.positives) == (mask.sum(), mask.sum() / 2, mask.sum() / 2)
        assert got.auc == pytest.approx(metrics.auc(label, score), abs=1e-12)
        assert got.gauc == metrics.gauc(user, label, score)
        assert got.logloss == metrics.logloss(label, score)
        assert got.calibration_error == metrics.expected_calibration_error(label, score)
        assert got.predicted_observed_ratio == metrics.predicted_observed_ratio(label, score)
        assert got.auc_low is not None
        assert got.auc_high is not None
        assert got.auc is not None
        assert got.auc_low < got.auc < got.auc_high
    assert sum(result[name].rows for name in GROUPS) == result[ALL].rows


def test_the_seed_decides_the_intervals_and_nothing_else() -> None:
    run = made_run(1.0, seed=0)
    first, again, other = (evaluate(run, THRESHOLDS, 50, seed) for seed in (0, 0, 1))
    assert first == again
    assert first[ALL].auc == other[ALL].auc
    assert first[ALL].auc_low != other[ALL].auc_low


def test_an_evaluation_survives_json() -> None:
    result = evaluate(made_run(1.0, seed=0), (3, 100), replicates=20)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == result


def test_a_group_without_rows_has_no_figures() -> None:
    empty = evaluate(made_run(1.0, seed=0), (3, 100), replicates=20)["highly-active"]
    assert (empty.rows, empty.users, empty.positives) == (0, 0, 0)
    assert empty.auc is None
    assert empty.auc_low is None
    assert empty.gauc is None
    assert empty.logloss is None
    assert empty.calibration_error is None
    assert empty.predicted_observed_ratio is None


def test_a_group_of_one_class_has_a_logloss_but_no_auc() -> None:
    zeros = np.zeros(4, dtype=np.int64)
    run = Predictions(
        user=np.arange(4), item=zeros, label=zeros, activity=zeros, score=np.full(4, 0.5)
    )
    result = evaluate(run, THRESHOLDS, replicates=20)[ALL]
    assert result.auc is None
    assert result.auc_low is None
    assert result.logloss == pytest.approx(np.log(2))
    assert result.predicted_observed_ratio is None


def test_scores_that_only_rank_have_no_logloss_and_no_calibration() -> None:
    run = made_run(1.0, seed=0)
    ranking = Predictions(run.user, run.item, run.label, run.activity, run.score, False)
    result = evaluate(ranking, THRESHOLDS, replicates=20)[ALL]
    assert result.auc == evaluate(run, THRESHOLDS, replicates=20)[ALL].auc
    assert result.gauc is not None
    assert result.logloss is None
    assert result.calibration_error is None
    assert result.predicted_observed_ratio is None


def test_the_activity_curve_uses_each_rows_own_activity() -> None:
    run = Predictions(
        user=np.array([1, 1, 1, 1, 2, 2]),
        item=np.zeros(6),
        label=np.array([1, 0, 1, 0, 1, 0]),
        activity=np.array([1, 1, 5, 5, 7, 7]),
        score=np.array([0.9, 0.1, 0.1, 0.9, 0.8, 0.2]),
    )
    first, second, third = auc_by_activity([run], [1, 2, 10], replicates=20)
    assert (first.lowest, first.highest, first.rows, first.users, first.auc) == (1, 1, 2, 1, 1.0)
    assert (second.lowest, second.highest, second.rows, second.users) == (2, 9, 4, 2)
    assert second.auc == metrics.auc(run.label[2:], run.score[2:])
    assert (third.lowest, third.highest, third.rows, third.auc) == (10, None, 0, None)


def test_the_activity_curve_of_several_seeds_is_their_mean_and_its_interval_covers_them() -> None:
    run = made_run(1.0, seed=0)
    other = replace(run, score=made_run(0.2, seed=1).score)
    edges = [0, 3]
    alone = [auc_by_activity([one], edges, 200) for one in (run, other)]
    both = auc_by_activity([run, other], edges, 200)
    for point, first, second in zip(both, *alone, strict=True):
        assert first.auc is not None
        assert second.auc is not None
        assert point.auc == pytest.approx((first.auc + second.auc) / 2)
        assert point.rows == first.rows
        # Which seed a training had is chance as well: the interval reaches to either of them.
        assert point.auc_low is not None
        assert point.auc_high is not None
        assert point.auc_low < min(first.auc, second.auc) + 0.02
        assert point.auc_high > max(first.auc, second.auc) - 0.02


@pytest.mark.parametrize("edges", [[], [2, 1], [1, 1]])
def test_edges_must_ascend(edges: list[int]) -> None:
    with pytest.raises(DataError, match="ascending"):
        auc_by_activity([made_run(1.0, 0)], edges)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_narrow_columns_give_the_same_figures(dtype: type) -> None:
    run = made_run(1.0, seed=0)
    columns = {name: getattr(run, name).astype(dtype) for name in ("user", "item", "activity")}
    narrow = Predictions(**columns, label=run.label, score=run.score)
    assert evaluate(narrow, THRESHOLDS, 20) == evaluate(run, THRESHOLDS, 20)
    assert auc_by_activity([narrow], [0, 4], 20) == auc_by_activity([run], [0, 4], 20)


def test_figures_do_not_depend_on_how_users_are_numbered() -> None:
    run = made_run(1.0, seed=0)
    sparse = Predictions(run.user * 10**12 + 7, run.item, run.label, run.activity, run.score)
    assert evaluate(sparse, THRESHOLDS, 20) == evaluate(run, THRESHOLDS, 20)


def test_groups_of_interleaved_rows_with_ties_are_measured_on_their_own_rows() -> None:
    rng = np.random.default_rng(5)
    user, label = rng.integers(0, 80, 900), rng.integers(0, 2, 900)
    activity = rng.integers(0, 12, 80)[user]
    score = rng.random(900).round(2)
    run = Predictions(user=user, item=user, label=label, activity=activity, score=score)
    groups = user_groups(run.user, run.activity, THRESHOLDS)
    result = evaluate(run, THRESHOLDS, 20)
    for g, name in enumerate(GROUPS):
        mask, got = groups == g, result[name]
        assert got.users == len(set(user[mask].tolist()))
        assert got.auc == pytest.approx(metrics.auc(label[mask], score[mask]), abs=1e-12)
        assert got.gauc == metrics.gauc(user[mask], label[mask], score[mask])
        assert got.calibration_error == pytest.approx(
            metrics.expected_calibration_error(label[mask], score[mask]), abs=1e-12
        )
