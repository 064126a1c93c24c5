"""Every measure equals scikit-learn or a slow loop written from its definition."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from aqcl import metrics, spill
from aqcl.errors import DataError
from aqcl.numbering import number_users

Array = npt.NDArray[Any]


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """User, label and score of a few rows with many ties."""
    rows = draw(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 6)), max_size=40)
    )
    columns = np.array(rows).reshape(-1, 3)
    return columns[:, 0], columns[:, 1], columns[:, 2] / 6


def _same(ours: float, theirs: float) -> None:
    assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)


def _slow_auc(label: Array, score: Array, weight: Array) -> float:
    wins = total = 0.0
    for i in range(len(label)):
        for j in range(len(label)):
            if label[i] == 1 and label[j] == 0:
                pair = weight[i] * weight[j]
                total += pair
                wins += pair * ((score[i] > score[j]) + (score[i] == score[j]) / 2)
    return wins / total if total else math.nan


@given(scored_rows(), st.randoms(use_true_random=False))
def test_auc_equals_counting_pairs(rows: tuple[Array, Array, Array], random: Any) -> None:
    _, label, score = rows
    weight = np.array([random.choice([0.0, 0.5, 1.0, 3.0]) for _ in label])
    _same(metrics.auc(label, score), _slow_auc(label, score, np.ones(len(label))))
    _same(metrics.auc(label, score, weight), _slow_auc(label, score, weight))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("digits", [1, 8])
def test_auc_and_logloss_equal_scikit_learn(dtype: type, digits: int) -> None:
    rng = np.random.default_rng(3)
    label = rng.integers(0, 2, 2000)
    score: Array = rng.beta(1 + label, 2).round(digits).astype(dtype)
    weight = rng.random(2000)
    _same(metrics.auc(label, score), reference.roc_auc_score(label, score))
    _same(
        metrics.auc(label, score, weight),
        reference.roc_auc_score(label, score, sample_weight=weight),
    )
    clipped = np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7)
    _same(metrics.logloss(label, score), reference.log_loss(label, clipped))


def test_auc_closed_forms() -> None:
    label = np.array([0, 0, 1, 1])
    assert metrics.auc(label, np.array([-2.0, -1.0, 1.0, 2.0])) == 1.0
    assert metrics.auc(label, np.array([2.0, 1.0, -1.0, -2.0])) == 0.0
    assert metrics.auc(label, np.full(4, 0.3)) == 0.5
    assert metrics.auc(label, np.array([0.1, 0.5, 0.5, 0.9])) == 0.875


def test_logloss_stays_finite_for_certain_mistakes() -> None:
    label = np.array([1, 0])
    assert metrics.logloss(label, np.array([0.0, 1.0])) == pytest.approx(-math.log(1e-7))
    assert metrics.logloss(label, np.array([1.0, 0.0])) == pytest.approx(1e-7)


@pytest.mark.parametrize("weight", ["impressions", "positives", "users"])
@given(rows=scored_rows())
def test_gauc_equals_a_loop_over_users(
    rows: tuple[Array, Array, Array], weight: metrics.UserWeight
) -> None:
    user, label, score = rows
    total = weights = 0.0
    for u in set(user.tolist()):
        mine = user == u
        own = _slow_auc(label[mine], score[mine], np.ones(mine.sum()))
        if not math.isnan(own):
            n = {"impressions": mine.sum(), "positives": label[mine].sum(), "users": 1}[weight]
            total, weights = total + n * own, weights + n
    expected = total / weights if weights else math.nan
    _same(metrics.gauc(user, label, score, weight), expected)


def test_gauc_of_pairs_is_the_rate_of_wins() -> None:
    user = np.array([7, 3, 7, 3, 5, 5])
    label = np.array([1, 0, 0, 1, 1, 0])
    score = np.array([0.9, 0.2, 0.1, 0.1, 0.4, 0.4])
    assert metrics.gauc(user, label, score) == pytest.approx((1 + 0 + 0.5) / 3)


def test_gauc_definitions_differ() -> None:
    user = np.array([1, 1, 1, 1, 2, 2])
    label = np.array([1, 1, 1, 0, 1, 0])
    score = np.array([3.0, 2.0, 1.0, 0.0, 0.0, 1.0])
    assert metrics.gauc(user, label, score) == pytest.approx(4 / 6)
    assert metrics.gauc(user, label, score, "positives") == pytest.approx(3 / 4)
    assert metrics.gauc(user, label, score, "users") == pytest.approx(1 / 2)


def test_rela_impr_gives_the_figure_of_the_paper() -> None:
    # table 3, Amazon, DIN without and with AQCL
    assert metrics.rela_impr(0.7078, 0.6956) == pytest.approx(6.24, abs=0.005)
    assert metrics.rela_impr(0.7, 0.7) == 0
    assert metrics.rela_impr(0.6, 0.7) == pytest.approx(-50)


@pytest.mark.parametrize("base", [0.5, 0.4, math.nan])
def test_rela_impr_over_a_base_at_chance_is_undefined(base: float) -> None:
    assert math.isnan(metrics.rela_impr(0.7, base))


def _slow_calibration_error(label: Array, probability: Array, bins: int) -> float:
    members: dict[int, list[int]] = {}
    for i, p in enumerate(probability):
        lower, tied = int((probability < p).sum()), int((probability == p).sum())
        members.setdefault((2 * lower + tied) * bins // (2 * len(label)), []).append(i)
    error = 0.0
    for rows in members.values():
        error += len(rows) * abs(label[rows].mean() - probability[rows].mean())
    return error / len(label)


@given(scored_rows(), st.integers(1, 12))
def test_calibration_error_equals_a_loop(rows: tuple[Array, Array, Array], bins: int) -> None:
    _, label, probability = rows
    assume(len(label))
    _same(
        metrics.expected_calibration_error(label, probability, bins),
        _slow_calibration_error(label, probability, bins),
    )


def test_calibration_error_cuts_bins_of_equal_mass() -> None:
    probability = np.array([0.01, 0.02, 0.03, 0.98])
    label = np.array([0, 0, 1, 1])
    # two bins of two rows, though three of the four probabilities are below one half
    expected = (abs(0.03 - 0) + abs(1.01 - 2)) / 4
    assert metrics.expected_calibration_error(label, probability, 2) == pytest.approx(expected)


@given(scored_rows(), st.randoms(use_true_random=False))
def test_no_measure_depends_on_the_order_of_rows(
    rows: tuple[Array, Array, Array], random: Any
) -> None:
    order = random.sample(range(len(rows[0])), len(rows[0]))
    user, label, score = rows
    _same(metrics.auc(label, score), metrics.auc(label[order], score[order]))
    _same(metrics.gauc(user, label, score), metrics.gauc(user[order], label[order], score[order]))
    _same(
        metrics.expected_calibration_error(label, score),
        metrics.expected_calibration_error(label[order], score[order]),
    )


def test_predicted_observed_ratio() -> None:
    label = np.array([1, 0, 0, 1])
    assert metrics.predicted_observed_ratio(label, np.full(4, 0.75)) == pytest.approx(1.5)
    assert math.isnan(metrics.predicted_observed_ratio(np.zeros(4), np.full(4, 0.75)))


def test_measures_that_the_rows_do_not_define_are_nan() -> None:
    nothing, ones = np.empty(0), np.ones(3)
    half = np.full(3, 0.5)
    assert math.isnan(metrics.auc(ones, half))
    assert math.isnan(metrics.auc(np.zeros(3), half))
    assert math.isnan(metrics.auc(np.array([0, 1, 1]), half, weight=np.array([0.0, 1.0, 1.0])))
    assert math.isnan(metrics.gauc(np.array([1, 2, 2]), np.array([0, 1, 1]), half))
    for value in (
        metrics.auc(nothing, nothing),
        metrics.logloss(nothing, nothing),
        metrics.gauc(nothing, nothing, nothing),
        metrics.expected_calibration_error(nothing, nothing),
        metrics.predicted_observed_ratio(nothing, nothing),
    ):
        assert math.isnan(value)


@pytest.mark.parametrize(
    "measure", [metrics.auc, metrics.logloss, metrics.predicted_observed_ratio]
)
def test_bad_values_are_errors_and_not_numbers(measure: Any) -> None:
    label = np.array([0, 1, 1])
    with pytest.raises(DataError, match="score, row 1: expected a finite number, got nan"):
        measure(label, np.array([0.5, np.nan, 0.5]))
    with pytest.raises(DataError, match="label, row 0: expected 0 or 1, got 2"):
        measure(np.array([2, 1, 0]), np.full(3, 0.5))


@pytest.mark.parametrize(
    "measure",
    [metrics.logloss, metrics.expected_calibration_error, metrics.predicted_observed_ratio],
)
@pytest.mark.parametrize("logit", [3.2, -0.5])
def test_logits_are_no_probabilities(measure: Any, logit: float) -> None:
    with pytest.raises(DataError, match=rf"probability, row 1: .* \[0, 1\], got {logit}; .*exp"):
        measure(np.array([1, 0]), np.array([1.0, logit]))


def _library_gauc(user: Array, label: Array, score: Array) -> float:
    """Users one by one, each by scikit-learn; users of one class do not count."""
    total = weights = 0.0
    for u in np.unique(user):
        mine = user == u
        if 0 < label[mine].sum() < mine.sum():
            total += mine.sum() * reference.roc_auc_score(label[mine], score[mine])
            weights += mine.sum()
    return total / weights if weights else math.nan


@pytest.mark.parametrize("digits", [1, 12])
@given(seed=st.integers(0, 2**32 - 1), n_users=st.integers(1, 60))
@settings(max_examples=25)
def test_gauc_equals_scikit_learn_user_by_user(digits: int, seed: int, n_users: int) -> None:
    rng = np.random.default_rng(seed)
    user = rng.integers(0, n_users, 150) * 10**9  # many users of one class where there are many
    label = (rng.random(150) < 0.2).astype(np.int8)
    score = rng.random(150).round(digits)
    _same(metrics.gauc(user, label, score), _library_gauc(user, label, score))


@given(scored_rows())
def test_gauc_of_a_group_is_that_of_its_rows(rows: tuple[Array, Array, Array]) -> None:
    user, label, score = rows
    number, n_users = number_users(user)
    pairs = metrics.user_pairs(number, label == 1, score)
    assert len(pairs.wins) == n_users
    members = np.arange(n_users) % 2 == 0
    mask = members[number]
    _same(pairs.gauc(members=members), metrics.gauc(user[mask], label[mask], score[mask]))


@pytest.mark.parametrize("size", [1, 7])
@given(scored_rows())
def test_pairs_are_the_same_in_any_chunks(size: int, rows: tuple[Array, Array, Array]) -> None:
    user, label, score = rows
    number, _ = number_users(user)
    arguments = (number, label == 1, score)
    whole = metrics.user_pairs(*arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "CHUNK_ROWS", size)
        pairs = metrics.user_pairs(*arguments)
    for name, found in vars(pairs).items():
        np.testing.assert_array_equal(found, getattr(whole, name))


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_logloss_is_the_same_in_any_chunks(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    label, probability = rng.integers(0, 2, 100), rng.random(100)
    whole = metrics.logloss(label, probability)
    monkeypatch.setattr(spill, "CHUNK_ROWS", size)
    assert metrics.logloss(label, probability) == whole


@given(scored_rows())
def test_narrow_types_give_the_same_measures(rows: tuple[Array, Array, Array]) -> None:
    user, label, score = rows
    wide, narrow = user.astype(np.int64) * 400_000_000, user.astype(np.int32) * 400_000_000
    _same(metrics.gauc(wide, label, score), metrics.gauc(narrow, label.astype(np.int8), score))


def test_keys_of_many_users_and_levels_do_not_overflow() -> None:
    """Users times distinct scores is far beyond 32 bits, as in any real split."""
    n = 70_000
    user = np.arange(n, dtype=np.int32) // 2
    label, score = np.arange(n) % 2, np.linspace(0, 1, n)
    score[-2:] = score[:-3:-1]  # the last user's click ranks below the other row
    assert metrics.gauc(user, label, score) == pytest.approx(1 - 2 / n, abs=1e-12)


def test_single_precision_is_calibrated_in_double() -> None:
    rng = np.random.default_rng(0)
    label, probability = rng.integers(0, 2, 5000), rng.random(5000, dtype=np.float32)
    _same(
        metrics.expected_calibration_error(label, probability),
        metrics.expected_calibration_error(label, probability.astype(np.float64)),
    )


def test_gauc_of_impressions_is_above_chance_for_what_knows_no_item() -> None:
    """The numbers of docs/protocol.md: four rows a user, one in five clicked, all by chance."""
    random = np.random.default_rng(0)
    label = (random.random((20_000, 4)) < 0.2).astype(np.int8)
    before = label.cumsum(axis=1) - label
    user = np.repeat(np.arange(20_000), 4)
    score = -before.ravel() - 1e-3 * random.random(80_000)
    assert f"{metrics.auc(label.ravel(), score):.2f}" == "0.50"
    assert f"{metrics.gauc(user, label.ravel(), score):.2f}" == "0.72"


def test_weights_that_count_nothing_are_refused() -> None:
    label, score = np.array([1, 0, 1]), np.array([0.2, 0.1, 0.3])
    for weight in ([1.0, -1.0, 1.0], [1.0, np.nan, 1.0]):
        with pytest.raises(DataError, match="weight, row 1: expected a number, 0 or more"):
            metrics.auc(label, score, np.array(weight))
