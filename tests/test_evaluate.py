import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aqcl import metrics
from aqcl.activity import GROUPS, user_groups
from aqcl.errors import ConfigError, DataError
from aqcl.evaluate import (
    ALL,
    Comparison,
    ComparisonRow,
    Evaluation,
    auc_by_activity,
    compare,
    evaluate,
)
from aqcl.predictions import Predictions

Array = npt.NDArray[Any]
THRESHOLDS = (3, 8)
N_USERS = 600


def _rows(n_users: int = N_USERS) -> dict[str, Any]:
    """A positive and a negative for each user; every group has at least 100 users."""
    rng = np.random.default_rng(0)
    activity = rng.integers(0, 12, n_users)
    return {
        "user": np.repeat(np.arange(n_users), 2),
        "item": rng.integers(0, 50, 2 * n_users),
        "label": np.tile([1, 0], n_users),
        "activity": np.repeat(activity, 2),
    }


def _run(gain: float, seed: int, noise: float = 0.3, n_users: int = N_USERS) -> Predictions:
    """Scores that share most of their noise with every other run, as models on one log do."""
    rows = _rows(n_users)
    shared = np.random.default_rng(1).normal(size=2 * n_users)
    own = np.random.default_rng([2, seed]).normal(size=2 * n_users)
    logit = shared + noise * own + gain * rows["label"]
    return Predictions(**rows, score=1 / (1 + np.exp(-logit)))


def _row(comparison: Comparison, configuration: str, group: str = ALL) -> ComparisonRow:
    return next(
        row for row in comparison.rows if row.configuration == configuration and row.group == group
    )


def test_every_group_is_measured_on_its_own_rows() -> None:
    run = _run(1.0, seed=0)
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
    run = _run(1.0, seed=0)
    first, again, other = (evaluate(run, THRESHOLDS, 50, seed) for seed in (0, 0, 1))
    assert first == again
    assert first[ALL].auc == other[ALL].auc
    assert first[ALL].auc_low != other[ALL].auc_low


def test_an_evaluation_survives_json() -> None:
    result = evaluate(_run(1.0, seed=0), (3, 100), replicates=20)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == result


def test_a_group_without_rows_has_no_figures() -> None:
    empty = evaluate(_run(1.0, seed=0), (3, 100), replicates=20)["highly-active"]
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
    run = _run(1.0, seed=0)
    ranking = Predictions(run.user, run.item, run.label, run.activity, run.score, False)
    result = evaluate(ranking, THRESHOLDS, replicates=20)[ALL]
    assert result.auc == evaluate(run, THRESHOLDS, replicates=20)[ALL].auc
    assert result.gauc is not None
    assert result.logloss is None
    assert result.calibration_error is None
    assert result.predicted_observed_ratio is None


def test_a_comparison_averages_seeds_before_the_ratio() -> None:
    base = [_run(1.0, seed) for seed in (0, 1, 2)]
    other = [_run(1.5, seed) for seed in (10, 11)]
    row = _row(compare({"din": base, "aqcl": other}, "din", THRESHOLDS, 20), "aqcl")
    ours = [metrics.auc(run.label, run.score) for run in other]
    theirs = np.mean([metrics.auc(run.label, run.score) for run in base])
    assert (row.rows, row.users, row.positives, row.seeds) == (2 * N_USERS, N_USERS, N_USERS, 2)
    assert row.auc == pytest.approx(np.mean(ours), abs=1e-12)
    assert row.auc_sd == pytest.approx(np.std(ours, ddof=1), abs=1e-12)
    assert row.difference == pytest.approx(np.mean(ours) - theirs, abs=1e-12)
    ratio = ((np.mean(ours) - 0.5) / (theirs - 0.5) - 1) * 100
    assert row.rela_impr == pytest.approx(ratio, abs=1e-9)


def test_verdicts() -> None:
    result = compare(
        {
            "din": [_run(1.0, seed) for seed in (0, 1, 2)],
            "same": [_run(1.0, seed) for seed in (3, 4, 5)],
            "good": [_run(1.5, seed) for seed in (6, 7, 8)],
            "bad": [_run(0.5, seed) for seed in (9, 10, 11)],
        },
        "din",
        THRESHOLDS,
        replicates=200,
    )
    assert [(row.group, row.configuration) for row in result.rows] == [
        (group, name) for group in (ALL, *GROUPS) for name in ("din", "same", "good", "bad")
    ]
    for group in (ALL, *GROUPS):
        assert _row(result, "din", group).verdict == "base"
        assert _row(result, "same", group).verdict == "no difference shown"
        assert _row(result, "good", group).verdict == "better"
        assert _row(result, "bad", group).verdict == "worse"
    base, good, bad = (_row(result, name) for name in ("din", "good", "bad"))
    assert (base.difference, base.difference_low, base.rela_impr, base.rela_impr_high) == (0,) * 4
    for row in (good, bad):
        assert row.difference_low is not None
        assert row.difference is not None
        assert row.difference_high is not None
        assert row.difference_low < row.difference < row.difference_high
        assert row.rela_impr_low is not None
        assert row.rela_impr is not None
        assert row.rela_impr_high is not None
        assert row.rela_impr_low < row.rela_impr < row.rela_impr_high


def test_pairing_makes_the_interval_of_the_difference_narrower_than_either() -> None:
    runs = {"din": [_run(1.0, 0)], "aqcl": [_run(1.1, 1)]}
    row = _row(compare(runs, "din", THRESHOLDS, 200), "aqcl")
    assert row.difference_low is not None
    assert row.difference_high is not None
    assert row.auc_low is not None
    assert row.auc_high is not None
    assert row.difference_high - row.difference_low < (row.auc_high - row.auc_low) / 2
    assert row.auc_sd is None


def test_seeds_that_scatter_widen_the_interval() -> None:
    rows = _run(1.0, 0)
    order = np.argsort(rows.score)  # a run that differs from the rest by far more than users do
    poor = Predictions(rows.user, rows.item, rows.label, rows.activity, rows.score[order][::-1])
    widths = []
    for target in ([_run(1.2, 1), _run(1.2, 2)], [_run(1.2, 1), poor]):
        row = _row(compare({"a": [rows, rows], "b": target}, "a", THRESHOLDS, 200), "b")
        assert row.difference_low is not None
        assert row.difference_high is not None
        widths.append(row.difference_high - row.difference_low)
    assert widths[1] > 2 * widths[0]


def test_a_seed_effect_that_both_configurations_share_cancels() -> None:
    gains = (0.2, 1.0, 3.0)
    result = compare(
        {
            "a": [_run(gain, 0, noise=0) for gain in gains],
            "b": [_run(gain, 0, noise=0) for gain in gains],
        },
        "a",
        THRESHOLDS,
        replicates=50,
    )
    row = _row(result, "b")
    assert row.difference_low == row.difference_high == 0
    assert row.verdict == "no difference shown"


@pytest.mark.parametrize(("n_users", "verdict"), [(99, "too few users to tell"), (100, "better")])
def test_few_users_are_not_judged(n_users: int, verdict: str) -> None:
    runs = {"a": [_run(0.0, 0, n_users=n_users)], "b": [_run(9.0, 1, n_users=n_users)]}
    result = compare(runs, "a", THRESHOLDS, replicates=50)
    assert _row(result, "b").verdict == verdict


@pytest.mark.parametrize(("n", "verdict"), [(49, "too few users to tell"), (50, "better")])
def test_few_positives_are_not_judged(n: int, verdict: str) -> None:
    label = (np.arange(200) < n).astype(np.int8)
    zeros = np.zeros(200, dtype=np.int64)
    random = np.random.default_rng(0).random(200)
    base, good = (
        Predictions(np.arange(200), zeros, label, zeros, score)
        for score in (random, label * 0.5 + random / 2)
    )
    assert _row(compare({"a": [base], "b": [good]}, "a", THRESHOLDS, 50), "b").verdict == verdict


def test_one_class_is_not_judged() -> None:
    zeros = np.zeros(200, dtype=np.int64)
    run = Predictions(np.arange(200), zeros, zeros + 1, zeros, np.full(200, 0.5))
    row = _row(compare({"a": [run], "b": [run]}, "a", THRESHOLDS, 20), "b")
    assert row.verdict == "too few users to tell"
    assert row.auc is None
    assert row.difference is None
    assert row.rela_impr is None


def test_rela_impr_over_a_base_at_chance_is_left_out() -> None:
    runs = {"a": [_run(0.0, 0)], "b": [_run(1.0, 1)]}
    row = _row(compare(runs, "a", THRESHOLDS, 200), "b")
    assert row.verdict == "better"
    assert row.rela_impr_low is None
    assert row.rela_impr_high is None


def test_a_comparison_survives_json() -> None:
    result = compare({"a": [_run(1, 0)], "b": [_run(1, 1)] * 2}, "a", (3, 100), 20)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert Comparison.from_json(json.loads(text)) == result


@pytest.mark.parametrize("column", ["user", "item", "label", "activity"])
def test_runs_on_different_rows_are_not_compared(column: str) -> None:
    run = _run(1.0, 0)
    columns = {name: getattr(run, name).copy() for name in ("user", "item", "label", "activity")}
    columns[column][17] = 1 - columns[column][17] if column == "label" else 1000
    changed = Predictions(**columns, score=run.score)
    message = f"configuration 'b', run 2: column {column}, row 17: .* run 1 of 'a'"
    with pytest.raises(DataError, match=message):
        compare({"a": [run], "b": [run, changed]}, "a", THRESHOLDS, 20)


def test_runs_of_different_length_are_not_compared() -> None:
    runs = {"a": [_run(1.0, 0)], "b": [_run(1.0, 0, n_users=10)]}
    with pytest.raises(DataError, match="'b', run 1: got 20 rows, expected 1200"):
        compare(runs, "a", THRESHOLDS, 20)


def test_a_comparison_needs_its_base_and_runs() -> None:
    with pytest.raises(ConfigError, match="base = 'dinn' does not exist; did you mean 'din'"):
        compare({"din": [_run(1.0, 0)]}, "dinn", THRESHOLDS, 20)
    with pytest.raises(DataError, match="'b': expected at least one run"):
        compare({"a": [_run(1.0, 0)], "b": []}, "a", THRESHOLDS, 20)


def test_the_activity_curve_uses_each_rows_own_activity() -> None:
    run = Predictions(
        user=np.array([1, 1, 1, 1, 2, 2]),
        item=np.zeros(6),
        label=np.array([1, 0, 1, 0, 1, 0]),
        activity=np.array([1, 1, 5, 5, 7, 7]),
        score=np.array([0.9, 0.1, 0.1, 0.9, 0.8, 0.2]),
    )
    first, second, third = auc_by_activity(run, [1, 2, 10], replicates=20)
    assert (first.lowest, first.highest, first.rows, first.users, first.auc) == (1, 1, 2, 1, 1.0)
    assert (second.lowest, second.highest, second.rows, second.users) == (2, 9, 4, 2)
    assert second.auc == metrics.auc(run.label[2:], run.score[2:])
    assert (third.lowest, third.highest, third.rows, third.auc) == (10, None, 0, None)


@pytest.mark.parametrize("edges", [[], [2, 1], [1, 1]])
def test_edges_must_ascend(edges: list[int]) -> None:
    with pytest.raises(DataError, match="ascending"):
        auc_by_activity(_run(1.0, 0), edges)
