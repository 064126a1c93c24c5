"""Stored latents: the latest stay, and they join the assignment of a small batch."""

import pytest
import torch

from aqcl.codebook import balanced, filled, push
from aqcl.contrastive import sinkhorn, unit


@pytest.mark.parametrize("sizes", [(0,), (3,), (5,), (9,), (2, 2, 2), (4, 0, 9, 1)], ids=str)
def test_the_latest_stay_in_their_order(sizes: tuple[int, ...]) -> None:
    stored, rows = torch.zeros(5, 2), torch.arange(1.0, 41.0).reshape(20, 2)

    for batch in rows[: sum(sizes)].split(sizes):
        push(stored, batch.requires_grad_())

    assert not stored.requires_grad
    expected = rows[: sum(sizes)][-5:]
    assert torch.equal(filled(stored), expected)
    assert torch.equal(stored[5 - len(expected) :], expected)


@pytest.mark.parametrize(("n_samples", "n_joined"), [(3, 4), (7, 4), (8, 0), (9, 0)])
def test_stored_latents_join_a_batch_smaller_than_their_store(
    n_samples: int, n_joined: int
) -> None:
    random = torch.Generator().manual_seed(0)
    z, stored, codebook = (unit(torch.randn(n, 3, generator=random)) for n in (n_samples, 8, 5))
    stored[:4] = 0

    plan = balanced(z @ codebook.T, 3 * stored, codebook, epsilon=0.1, iterations=3)

    everything = torch.cat([z, stored[4 : 4 + n_joined]])
    expected = sinkhorn(everything @ codebook.T, epsilon=0.1, iterations=3)
    torch.testing.assert_close(plan, expected)
