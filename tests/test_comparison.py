import json
from dataclasses import replace

import numpy as np
import pytest

from aqcl import metrics
from aqcl.activity import GROUPS
from aqcl.comparison import (
    Comparison,
    ComparisonRow,
    compare,
    corrected,
)
from aqcl.errors import ConfigError, DataError
from aqcl.evaluate import ALL
from aqcl.predictions import Predictions
from aqcl.significance import holm
from tests.evaluated_runs import N_USERS, THRESHOLDS, made_run


def _row(comparison: Comparison, configuration: str, group: str = ALL) -> ComparisonRow:
    return next(
        row for row in comparison.rows if row.configuration == configuration and row.group == group
    )


def test_a_comparison_averages_seeds_before_the_ratio() -> None:
    base = [made_run(1.0, seed) for seed in (0, 1, 2)]
    other = [made_run(1.5, seed) for seed in (10, 11)]
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
            "din": [made_run(1.0, seed) for seed in (0, 1, 2)],
            "same": [made_run(1.0, seed) for seed in (3, 4, 5)],
            "good": [made_run(1.5, seed) for seed in (6, 7, 8)],
            "bad": [made_run(0.5, seed) for seed in (9, 10, 11)],
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
    runs = {"din": [made_run(1.0, 0)], "aqcl": [made_run(1.1, 1)]}
    row = _row(compare(runs, "din", THRESHOLDS, 200), "aqcl")
    assert row.difference_low is not None
    assert row.difference_high is not None
    assert row.auc_low is not None
    assert row.auc_high is not None
    assert row.difference_high - row.difference_low < (row.auc_high - row.auc_low) / 2
    assert row.auc_sd is None


def test_seeds_that_scatter_widen_the_interval() -> None:
    rows = made_run(1.0, 0)
    order = np.argsort(rows.score)  # a run that differs from the rest by far more than users do
    poor = Predictions(rows.user, rows.item, rows.label, rows.activity, rows.score[order][::-1])
    widths = []
    for target in ([made_run(1.2, 1), made_run(1.2, 2)], [made_run(1.2, 1), poor]):
        row = _row(compare({"a": [rows, rows], "b": target}, "a", THRESHOLDS, 200), "b")
        assert row.difference_low is not None
        assert row.difference_high is not None
        widths.append(row.difference_high - row.difference_low)
    assert widths[1] > 2 * widths[0]


def test_a_seed_effect_that_both_configurations_share_cancels() -> None:
    gains = (0.2, 1.0, 3.0)
    result = compare(
        {
            "a": [made_run(gain, 0, noise=0) for gain in gains],
            "b": [made_run(gain, 0, noise=0) for gain in gains],
        },
        "a",
        THRESHOLDS,
        replicates=50,
    )
    row = _row(result, "b")
    assert row.difference_low == row.difference_high == 0
    assert row.verdict == "no difference shown"


@pytest.mark.parametrize(("n_users", "verdict"), [(99, "too little to tell"), (100, "better")])
def test_few_users_are_not_judged(n_users: int, verdict: str) -> None:
    runs = {"a": [made_run(0.0, 0, n_users=n_users)], "b": [made_run(9.0, 1, n_users=n_users)]}
    result = compare(runs, "a", THRESHOLDS, replicates=50)
    assert _row(result, "b").verdict == verdict


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize(("n", "verdict"), [(49, "too little to tell"), (50, "better")])
def test_few_rows_of_a_label_are_not_judged(n: int, verdict: str, positive: bool) -> None:
    label = ((np.arange(200) < n) == positive).astype(np.int8)
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
    assert row.verdict == "too little to tell"
    assert row.auc is None
    assert row.difference is None
    assert row.rela_impr is None


def test_rela_impr_over_a_base_at_chance_is_left_out() -> None:
    runs = {"a": [made_run(0.0, 0)], "b": [made_run(1.0, 1)]}
    row = _row(compare(runs, "a", THRESHOLDS, 200), "b")
    assert row.verdict == "better"
    assert row.rela_impr_low is None
    assert row.rela_impr_high is None


def test_a_comparison_survives_json() -> None:
    result = compare({"a": [made_run(1, 0)], "b": [made_run(1, 1)] * 2}, "a", (3, 100), 20)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert Comparison.from_json(json.loads(text)) == result


@pytest.mark.parametrize("column", ["user", "item", "label", "activity"])
def test_runs_on_different_rows_are_not_compared(column: str) -> None:
    run = made_run(1.0, 0)
    columns = {name: getattr(run, name).copy() for name in ("user", "item", "label", "activity")}
    columns[column][17] = 1 - columns[column][17] if column == "label" else 1000
    changed = Predictions(**columns, score=run.score)
    message = f"configuration 'b', run 2: column {column}, row 17: .* run 1 of 'a'"
    with pytest.raises(DataError, match=message):
        compare({"a": [run], "b": [run, changed]}, "a", THRESHOLDS, 20)


def test_runs_of_different_length_are_not_compared() -> None:
    runs = {"a": [made_run(1.0, 0)], "b": [made_run(1.0, 0, n_users=10)]}
    with pytest.raises(DataError, match="'b', run 1: got 20 rows, expected 1200"):
        compare(runs, "a", THRESHOLDS, 20)


def test_a_comparison_needs_its_base_and_runs() -> None:
    with pytest.raises(ConfigError, match="base = 'dinn' does not exist; did you mean 'din'"):
        compare({"din": [made_run(1.0, 0)]}, "dinn", THRESHOLDS, 20)
    with pytest.raises(DataError, match="'b': expected at least one run"):
        compare({"a": [made_run(1.0, 0)], "b": []}, "a", THRESHOLDS, 20)


def test_many_comparisons_are_corrected_and_yardsticks_among_themselves() -> None:
    runs = {"a": [made_run(1.0, 0)], "b": [made_run(1.1, 1)]}
    counted = {"popularity": [made_run(0.1, 2)], "item-CF": [made_run(0.9, 3)]}
    rows = compare({**runs, **counted}, "a", THRESHOLDS, 200, untrained=tuple(counted)).rows
    for family in ({"b"}, set(counted)):
        claims = [row for row in rows if row.configuration in family and row.p_value is not None]
        assert len(claims) > len(family)
        corrected_alone = holm([row.p_value or 0 for row in claims])
        assert [row.holm for row in claims] == pytest.approx(corrected_alone)
    assert all(row.p_value is None for row in rows if row.configuration == "a")


def test_what_has_too_few_users_to_tell_makes_no_other_p_larger() -> None:
    rows = compare({"a": [made_run(0.2, 0)], "b": [made_run(2.0, 0)]}, "a", THRESHOLDS, 50).rows
    (whole, *groups) = (row for row in rows if row.configuration == "b")
    whole = replace(whole, p_value=0.02)
    small = [replace(row, verdict="too little to tell", p_value=0.5) for row in groups]
    assert [row.holm for row in corrected([whole, *small], ())] == [0.02, None, None, None]
    judged = [replace(row, verdict="no difference shown", p_value=0.5) for row in groups]
    assert corrected([whole, *judged], ())[0].holm == pytest.approx(4 * 0.02)
    assert corrected([whole, *judged], (), 2)[0].holm == pytest.approx(12 * 0.02)
    assert corrected([whole, *small], (), 2)[0].holm == pytest.approx(3 * 0.02)


def test_a_finding_says_what_does_not_survive_the_correction() -> None:
    rows = compare({"a": [made_run(0.2, 0)], "b": [made_run(2.0, 0)]}, "a", THRESHOLDS, 50).rows
    row = replace(next(row for row in rows if row.verdict == "better"), single=False)
    assert replace(row, holm=0.2).finding == "better, not after Holm"
    assert replace(row, holm=0.01).finding == "better"
    assert replace(row, holm=None).finding == "better"


def test_what_was_not_trained_does_not_scatter() -> None:
    several = [made_run(1.0, seed) for seed in (0, 1, 2)]
    runs = {"a": several, "b": [made_run(1.2, 3)], "popularity": [made_run(1.2, 3)]}
    result = compare(runs, "a", THRESHOLDS, 200, untrained=("popularity",))
    once, counted = _row(result, "b"), _row(result, "popularity")
    assert (once.auc_low, once.auc_high) == (counted.auc_low, counted.auc_high)
    assert once.difference_low is not None
    assert once.difference_high is not None
    assert counted.difference_low is not None
    assert counted.difference_high is not None
    assert once.difference_low < counted.difference_low
    assert once.difference_high > counted.difference_high


def test_results_from_before_p_values_are_read() -> None:
    result = compare({"a": [made_run(1, 0)], "b": [made_run(1, 1)]}, "a", THRESHOLDS, 20)
    values = result.to_json()
    for row in values["rows"]:
        del row["p_value"], row["holm"]
    old = Comparison.from_json(values)
    assert [row.verdict for row in old.rows] == [row.verdict for row in result.rows]
    assert all(row.p_value is None and row.holm is None for row in old.rows)
