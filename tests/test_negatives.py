"""Negatives are legal, follow the weights and depend on their place alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aqcl import negatives
from aqcl.negatives import cumulative_weights, draw, pack
from aqcl.schema import FIRST_ID, PADDING

NONE_SEEN = np.empty(0, dtype=np.int64)


def _seen(pairs: set[tuple[int, int]]) -> negatives.Int64s:
    table = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return pack(table[:, 0], table[:, 1])


def _expected(cdf: negatives.Floats, banned: set[int]) -> negatives.Floats:
    weights = np.diff(cdf, prepend=0.0)
    weights[list(banned)] = 0
    weights /= weights.sum()
    return weights


def _draw_many(cdf: negatives.Floats, seen: negatives.Int64s, n: int = 20_000) -> negatives.Int32s:
    return draw(np.full(n, 5), np.arange(n), cdf, seen, seed=3)


def test_pairs_keep_their_order_and_do_not_mix() -> None:
    users = np.array([0, 0, 1, 2**31 - 1], dtype=np.int32)
    items = np.array([1, 2**31 - 1, 0, 2**31 - 1], dtype=np.int32)

    packed = pack(users, items)

    assert packed.tolist() == [1, 2**31 - 1, 2**32, ((2**31 - 1) << 32) + 2**31 - 1]


def test_weights_are_counts_plus_one_to_the_beta() -> None:
    counts = np.array([0, 0, 0, 3, 15])

    assert np.diff(cumulative_weights(counts, 0.5), prepend=0) == pytest.approx(
        np.array([0, 0, 1, 2, 4]) / 7
    )
    assert np.diff(cumulative_weights(counts, 0.0), prepend=0) == pytest.approx(
        np.array([0, 0, 1, 1, 1]) / 3
    )
    assert cumulative_weights(counts, 0.5)[-1] == 1.0


@given(
    st.integers(1, 6),
    st.sets(st.tuples(st.integers(2, 5), st.integers(2, 7))),
    st.integers(0, 2**63 - 1),
    st.integers(0, 100),
    st.floats(0, 2),
)
def test_no_draw_is_ever_illegal(
    n_items: int, pairs: set[tuple[int, int]], seed: int, epoch: int, beta: float
) -> None:
    counts = np.arange(n_items + FIRST_ID) * 1000
    users = np.repeat(np.arange(2, 6, dtype=np.int32), 5)
    pairs = {pair for pair in pairs if pair[1] < len(counts)}

    items = draw(
        users, np.arange(len(users)), cumulative_weights(counts, beta), _seen(pairs), seed, epoch
    )

    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        legal = {i for i in range(FIRST_ID, len(counts)) if (user, i) not in pairs}
        assert item in (legal or {PADDING})


@pytest.mark.parametrize("rounds", [0, 48])
def test_draws_follow_the_weights_of_the_legal_items(
    rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(negatives, "_ROUNDS", rounds)  # 0: the exact draw from the items left
    cdf = cumulative_weights(np.array([0, 0, 99, 0, 8, 24, 3]), 0.5)

    drawn = np.bincount(_draw_many(cdf, _seen({(5, 2), (5, 4), (6, 3)})), minlength=7)

    expected = _expected(cdf, {2, 4})
    assert not drawn[expected == 0].any()
    legal = expected > 0
    assert stats.chisquare(drawn[legal], expected[legal] * drawn.sum()).pvalue > 1e-3


def test_unseen_and_rare_items_are_drawn_under_uniform_weights() -> None:
    drawn = np.bincount(_draw_many(cumulative_weights(np.arange(102), 0.0), NONE_SEEN))

    assert drawn[:FIRST_ID].sum() == 0
    assert stats.chisquare(drawn[FIRST_ID:]).pvalue > 1e-3


def test_a_user_who_saw_almost_all_weight_gets_what_is_left() -> None:
    counts = np.array([0, 0, 10**9, 0, 0])

    items = _draw_many(cumulative_weights(counts, 2.0), _seen({(5, 2), (5, 3)}), n=10)

    assert items.tolist() == [4] * 10


def test_rows_are_independent_of_the_batch_they_come_in() -> None:
    users, rows = np.repeat(np.arange(2, 12), 10), np.arange(100)
    cdf = cumulative_weights(np.zeros(52, dtype=int), 0.0)
    seen = _seen({(u, i) for u in range(2, 12) for i in range(2, 30)})
    whole = draw(users, rows, cdf, seen, 1, 2)
    shuffled = np.random.default_rng(0).permutation(100)

    part = draw(users[shuffled], rows[shuffled], cdf, seen, 1, 2)

    assert np.array_equal(part, whole[shuffled])


@pytest.mark.parametrize(("seed", "epoch", "shift"), [(2, 0, 0), (1, 1, 0), (1, 0, 1000)])
def test_seed_epoch_and_row_each_change_the_draw(seed: int, epoch: int, shift: int) -> None:
    users, rows = np.full(1000, 2), np.arange(1000)
    cdf = cumulative_weights(np.zeros(1002, dtype=int), 0.0)
    first = draw(users, rows, cdf, NONE_SEEN, 1, 0)

    second = draw(users, rows + shift, cdf, NONE_SEEN, seed, epoch)

    assert (first == second).mean() < 0.02


def _mixed(word: int) -> int:
    """The finaliser of splitmix64 in plain integers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


def test_draws_are_those_of_the_hash_in_plain_integers() -> None:
    seed, epoch, n_items = 2**63 - 1, 12, 1000
    golden, second = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03
    rows = [0, 1, 2, 54_000_000]
    cdf = cumulative_weights(np.zeros(n_items + FIRST_ID, dtype=int), 0.0)

    drawn = draw(np.full(4, 2), np.array(rows), cdf, NONE_SEEN, seed, epoch)

    key = _mixed((seed * golden + epoch * second) % 2**64)
    states = [_mixed((key + row * golden) % 2**64) for row in rows]
    units = [(_mixed((state + second) % 2**64) >> 11) / 2**53 for state in states]
    assert drawn.tolist() == [FIRST_ID + int(unit * n_items) for unit in units]
