"""How far verdicts and p-values may be trusted where methods were trained a few times."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from aqcl.bootstrap import interval, resample_seeds, t_tail
from aqcl.comparison import Comparison, Measured, compare
from aqcl.evaluate import ALL, Counts
from aqcl.significance import SIGNIFICANCE, p_value, seed_freedom
from tests.evaluated_runs import THRESHOLDS, made_run

NULLS = 300
"""Comparisons of methods that do not differ."""


def found_in_nulls(n_seeds: int, of_users: float, of_seeds: float) -> tuple[int, int]:
    """How many intervals lie beside zero, and how many p are below 0.01, where nothing differs."""
    rng = np.random.default_rng(n_seeds)
    beside, far = 0, 0
    for _ in range(NULLS):
        ours = of_users * rng.normal() + of_seeds * rng.normal(size=n_seeds)
        resamples = ours[:, None, None] + of_users * rng.normal(size=200)
        differences = resample_seeds(resamples, seed=0)[0]
        low, high = interval(differences)
        p = p_value(differences, seed_freedom(ours, np.zeros(n_seeds), differences))
        assert low is not None
        assert high is not None
        assert p is not None
        beside += low > 0 or high < 0
        far += p < 0.01
    return beside, far


@pytest.mark.parametrize(
    ("n_seeds", "base", "of_users"),
    [(2, "one", 0.0), (3, "several", 0.003), (5, "one", 0.0)],
)
def test_where_nothing_differs_a_single_training_is_rarely_told_from_several(
    n_seeds: int, base: str, of_users: float
) -> None:
    rng = np.random.default_rng(n_seeds)
    counts: dict[str, Counts] = {ALL: {"rows": 1000, "users": 500, "positives": 500}}
    beside, far = 0, 0
    for _ in range(NULLS):
        aucs = {"one": 0.7 + 0.01 * rng.normal(size=(1, 1))}
        aucs["several"] = 0.7 + 0.01 * rng.normal(size=(n_seeds, 1)) + of_users * rng.normal()
        resampled = {"one": np.tile(aucs["one"], 200)}
        users = aucs["several"][:, :, None] + of_users * rng.normal(size=200)
        resampled["several"] = resample_seeds(users, seed=0)
        measured = Measured(aucs, resampled, counts, THRESHOLDS, 200, 0)
        (row,) = (r for r in measured.against(base).rows if r.configuration != base)
        assert row.p_value is not None
        beside += row.verdict in ("better", "worse")
        far += row.p_value < 0.01
    assert beside <= 0.08 * NULLS
    assert far <= 0.025 * NULLS


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize(("of_users", "of_seeds"), [(0.0, 1.0), (1.0, 1.0), (1.0, 3.0), (3.0, 1.0)])
def test_where_nothing_differs_a_difference_is_rarely_seen(
    n_seeds: int, of_users: float, of_seeds: float
) -> None:
    """Of 95% intervals at most about 5% lie beside zero, of p below 0.01 about 1%."""
    beside, far = found_in_nulls(n_seeds, of_users, of_seeds)
    assert beside <= 0.08 * NULLS
    assert far <= 0.025 * NULLS


@pytest.mark.parametrize(("of_users", "share"), [(0.003, 1 / 4), (0.001, 2 / 3)])
def test_single_trainings_mislead_in_a_quarter_to_two_thirds_of_all_comparisons(
    of_users: float, share: float
) -> None:
    """As docs/protocol.md and tables say, for trainings that scatter as DIN's on Amazon Beauty."""
    beside, _ = found_in_nulls(1, of_users, 0.0028 * 2**0.5)
    assert beside == pytest.approx(share * NULLS, abs=0.08 * NULLS)


@pytest.mark.parametrize(
    ("claims", "freedom", "times"),
    [(4, 10.0, 1.4), (4, 4.0, 1.6), (20, 10.0, 1.8), (20, 4.0, 2.4)],
)
def test_how_much_more_holm_asks_for(claims: int, freedom: float, times: float) -> None:
    """As docs/tutorial.md says, of the best of so many claims."""
    enough, slightly_less = (
        t_tail((times + change) * NormalDist().inv_cdf(0.975), freedom) for change in (0.05, -0.05)
    )
    assert enough < SIGNIFICANCE / claims < slightly_less


def test_unless_they_are_spread_five_seeds_mislead_one_time_in_seven(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As docs/protocol.md says; the spread is thus what the test above is about."""
    monkeypatch.setattr("aqcl.bootstrap.seed_spread", lambda n_seeds: 1.0)
    beside, _ = found_in_nulls(5, 0.0, 1.0)
    assert beside == pytest.approx(NULLS / 7, abs=0.05 * NULLS)


def test_the_freedom_of_a_difference_is_that_of_its_seeds_where_they_alone_scatter() -> None:
    ours, base = np.array([0.1, 0.3, 0.2, 0.6]), np.zeros(4)
    resamples = np.repeat(ours[:, None, None], 4000, axis=2)
    differences = resample_seeds(resamples, seed=0)[0]
    assert seed_freedom(ours, base, differences) == pytest.approx(3, rel=0.1)
    assert seed_freedom(ours, base[:1], differences) == pytest.approx(3, rel=0.1)
    # ten times their variance in the users: 11 times the total, 121 times the freedom
    noise = np.random.default_rng(0).normal(size=4000) * differences.std() * 10**0.5
    assert seed_freedom(ours, base, differences + noise) == pytest.approx(3 * 121, rel=0.15)
    assert seed_freedom(ours[:1], base[:1], noise) == np.inf


@pytest.mark.parametrize(("n_seeds", "most"), [(2, 1.0), (3, 2.0)])
def test_two_or_three_seeds_that_lie_together_leave_no_more_freedom_than_they_have(
    n_seeds: int, most: float
) -> None:
    together, four = (np.array([0.7 + 1e-6 * k for k in range(n)]) for n in (n_seeds, 4))
    many = np.array([0.70, 0.71, 0.69, 0.72, 0.68])
    users = 0.001 * np.random.default_rng(0).normal(size=1000)
    assert seed_freedom(together, np.zeros(n_seeds), users) == most
    assert seed_freedom(together[:1].repeat(n_seeds), np.zeros(n_seeds), users) == most
    assert seed_freedom(together, many, users) == most
    assert seed_freedom(together, many[:1], users, trained=False) == most
    # Of four on, how they scatter is known well enough.
    assert seed_freedom(four, np.zeros(4), users) > 1e6
    assert seed_freedom(together[:1], many[:1], users) == np.inf


def test_of_many_comparisons_two_seeds_rarely_make_one_a_finding() -> None:
    """Twenty are corrected for: a p below 0.05 / 20 is a finding; here users hardly scatter."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(1000):
        ours = 0.1 * rng.normal() + rng.normal(size=2)
        resamples = ours[:, None, None] + 0.1 * rng.normal(size=200)
        differences = resample_seeds(resamples, seed=0)[0]
        p = p_value(differences, seed_freedom(ours, np.zeros(2), differences))
        assert p is not None
        found += p < 0.05 / 20
    assert found <= 2 * 1000 * 0.05 / 20


def test_the_finding_of_one_training_against_one_says_so() -> None:
    one, other = made_run(0.2, 0), made_run(2.0, 1)
    runs = {"a": [one], "b": [other], "several": [other, made_run(2.0, 2)], "counted": [other]}
    result = compare(runs, "a", THRESHOLDS, 50, untrained=("counted",))
    rows = {row.configuration: row for row in result.rows if row.group == ALL}
    assert {name: row.single for name, row in rows.items()} == {
        "a": False,
        "b": True,
        "several": False,
        "counted": False,
    }
    assert rows["b"].finding == "better, one seed each"
    assert replace(rows["b"], holm=0.2).finding == "better, one seed each"
    assert replace(rows["b"], verdict="no difference shown").finding == "no difference shown"
    assert replace(rows["counted"], holm=0.01).finding == "better"


def test_results_from_before_single_trainings_were_told_are_read() -> None:
    values = compare({"a": [made_run(1, 0)], "b": [made_run(1, 1)]}, "a", THRESHOLDS, 20).to_json()
    for row in values["rows"]:
        del row["single"]
    assert not any(row.single for row in Comparison.from_json(values).rows)
