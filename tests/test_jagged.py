"""Jagged sums, means and softmax are loops over rows; padding there and back loses nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqcl.jagged import (
    pad,
    padded_length,
    positions,
    present,
    recency,
    segment_mean,
    segment_softmax,
    segment_sum,
    unpad,
    weighted_sum,
)
from tests.model_inputs import make_batch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_jagged_pooling_is_a_loop_over_rows(lengths: list[int]) -> None:
    batch = make_batch(lengths=lengths)
    values = torch.randn(sum(lengths), 3, generator=seeded())
    scores = torch.randn(sum(lengths), generator=seeded()) * 50

    sums = segment_sum(values, batch.segment, len(lengths))
    weighted = weighted_sum(scores, values, batch.segment, len(lengths))
    means = segment_mean(values, batch.segment, len(lengths))
    weights = segment_softmax(scores, batch.segment, len(lengths))

    for row, (start, stop) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        torch.testing.assert_close(sums[row], values[start:stop].sum(0))
        products = scores[start:stop, None] * values[start:stop]
        torch.testing.assert_close(weighted[row], products.sum(0))
        torch.testing.assert_close(means[row], values[start:stop].sum(0) / max(stop - start, 1))
        torch.testing.assert_close(weights[start:stop], scores[start:stop].softmax(0))


def test_jagged_softmax_is_differentiated_right() -> None:
    batch = make_batch()
    scores = torch.randn(len(batch.segment), generator=seeded(), dtype=torch.float64)

    assert torch.autograd.gradcheck(
        lambda x: segment_softmax(x, batch.segment, len(batch)), scores.requires_grad_()
    )


@pytest.mark.usefixtures("two_threads")
def test_the_gradient_of_jagged_softmax_repeats_on_two_threads() -> None:
    """One row of clicks that two threads share, each a half."""
    scores, upstream = torch.randn(2, 40_000, generator=seeded())
    segment = torch.zeros(len(scores), dtype=torch.int64)

    def gradient() -> torch.Tensor:
        leaf = scores.clone().requires_grad_()
        value = (segment_softmax(leaf, segment, 1) * upstream).sum()
        found: torch.Tensor = torch.autograd.grad(value, leaf)[0]
        return found

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(15))


@pytest.mark.parametrize("lengths", [(2, 0, 3, 1), (0, 0), (0, 4, 0)], ids=str)
def test_jagged_sums_are_differentiated_right(lengths: tuple[int, ...]) -> None:
    batch = make_batch(lengths=lengths)
    n_clicks, n_rows = len(batch.segment), len(batch)
    values = torch.randn(n_clicks, 3, generator=seeded(), dtype=torch.float64, requires_grad=True)
    weights = torch.randn(n_clicks, generator=seeded(1), dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda v: segment_sum(v, batch.segment, n_rows), values)
    assert torch.autograd.gradcheck(
        lambda w, v: weighted_sum(w, v, batch.segment, n_rows), (weights, values)
    )


def test_places_count_from_the_oldest_click_and_recency_from_the_latest() -> None:
    batch = make_batch(lengths=(0, 3, 1, 0, 2))

    assert positions(batch.segment, batch.offsets).tolist() == [0, 1, 2, 0, 0, 1]
    assert recency(batch.segment, batch.offsets).tolist() == [2, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("more", [0, 3])
@pytest.mark.parametrize("lengths", [(), (0,), (0, 0), (2, 0, 3), (1, 4, 0)], ids=str)
def test_padding_puts_the_oldest_click_first(lengths: tuple[int, ...], more: int) -> None:
    batch = make_batch(lengths=lengths)
    values = torch.randn(sum(lengths), 3, generator=seeded())
    length = padded_length(batch.offsets, 4) + more

    padded = pad(values, batch.segment, batch.offsets, length)
    mask = present(batch.offsets, length)

    assert padded.shape == (len(lengths), length, 3)
    for row, (start, stop) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        count = int(stop - start)
        assert torch.equal(padded[row, :count], values[start:stop])
        assert not padded[row, count:].any()
        assert mask[row].tolist() == [True] * count + [False] * (length - count)
    assert torch.equal(unpad(padded, batch.segment, batch.offsets), values)
