"""Stored latents: the latest stay, and they join the assignment of a small batch."""

from typing import Literal

import pytest
import torch

from aqcl.codebook import balanced, diagnostics, filled, interest_readout, push
from aqcl.contrastive import similarities, sinkhorn, unit
from aqcl.regularizers.aqcl import AQCL, AQCLOptions


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


def narrow_cone(n_vectors: int) -> torch.Tensor:
    """Unit vectors whose cosines are about 0.99, where bf16 has four values apart."""
    random = torch.Generator().manual_seed(n_vectors)
    return unit(torch.ones(16) + 0.1 * torch.randn(n_vectors, 16, generator=random))


def test_autocast_chooses_no_other_codewords() -> None:
    z, codebook = narrow_cone(60), narrow_cone(12)
    stored, usage = narrow_cone(80), torch.full((12,), 1 / 12)

    def found() -> list[torch.Tensor]:
        cosines = similarities(z, codebook)
        plan = balanced(cosines, stored, codebook, epsilon=0.05, iterations=3)
        codes = plan[: len(z)].argmax(1)
        told = diagnostics(z, z, codebook, codes, usage, top_k=3)
        readout = interest_readout(z, codebook, top_k=3, temperature=0.1)
        return [cosines, plan, readout, *told.values()]

    expected = found()
    with torch.autocast("cpu", torch.bfloat16):
        assert (z @ codebook.T).unique().numel() < 10
        assert all(map(torch.equal, found(), expected))


@pytest.mark.parametrize("kind", ["keep", "intent"])
def test_the_loss_assigns_in_full_precision_under_autocast(
    kind: Literal["keep", "intent"], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = AQCLOptions(
        dim=8, hidden_dim=8, n_codewords=6, top_k=2, warmup_steps=0, false_negatives=kind
    )
    products: list[torch.Tensor] = []

    def spy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        products.append(similarities(x, y))
        return products[-1]

    monkeypatch.setattr("aqcl.contrastive.similarities", spy)
    loss = AQCL(16, 3.0, options)
    with torch.autocast("cpu", torch.bfloat16):
        loss(narrow_cone(20), narrow_cone(20), torch.ones(20), diagnose=False)
    # For the K nearest codewords and the assignment; for the intents of samples before.
    assert len(products) == (3 if kind == "intent" else 2)
    assert all(product.dtype == torch.float32 for product in products)
