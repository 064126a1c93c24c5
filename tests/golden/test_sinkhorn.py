"""Balanced assignment and the codebook loss equal slow loops, and keep their promises."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqcl import contrastive
from aqcl.config import build
from aqcl.errors import ConfigError
from aqcl.regularizers.aqcl import AQCLOptions
from aqcl.regularizers.swav import SwAVOptions
from tests.golden import reference
from tests.golden.samples import DIM, N_CODEWORDS, assert_exact, sample


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 8),
    st.sampled_from([0.03, 0.05, 0.3]),
)
def test_sinkhorn_is_the_loop_of_swav(
    seed: int, n_samples: int, iterations: int, epsilon: float
) -> None:
    z, _, codebook = sample(seed, n_samples)
    scores = contrastive.unit(z) @ contrastive.unit(codebook).T

    ours = contrastive.sinkhorn(scores, epsilon=epsilon, iterations=iterations)

    assert_exact(ours, reference.swav_sinkhorn(scores.numpy(), epsilon, iterations))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_codeword_opposite_to_every_sample_gets_its_share(dtype: torch.dtype) -> None:
    z, _, codebook = sample(19)
    codebook[0], z = -torch.ones(DIM), 1 + 0.1 * z / z.norm(dim=1, keepdim=True)
    scores = contrastive.unit(z) @ contrastive.unit(codebook).T
    assert scores[:, 0].max() < -0.99

    plan = contrastive.sinkhorn(scores.to(dtype), epsilon=0.05, iterations=10)

    expected = torch.tensor(reference.swav_sinkhorn(scores.numpy(), 0.05, 10))
    torch.testing.assert_close(plan.double(), expected, rtol=0, atol=1e-6)
    assert float(plan[:, 0].sum()) == pytest.approx(1 / N_CODEWORDS, rel=0.05)


@pytest.mark.parametrize("options", [AQCLOptions, SwAVOptions])
def test_the_least_epsilon_still_balances_clusters(options: type[Any]) -> None:
    """In fp32, latents in few places and codewords anywhere: below, rounding leaves some out."""
    with pytest.raises(ConfigError, match=r"^sinkhorn_epsilon: .* equal to 0\.03, got 0\.029$"):
        build(options, {"sinkhorn_epsilon": 0.029})
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 64, generator=random)
    z = contrastive.unit(centres.repeat(256, 1) + 0.1 * torch.randn(1024, 64, generator=random))
    scores = z @ contrastive.unit(torch.randn(128, 64, generator=random)).T

    plan = contrastive.sinkhorn(scores, epsilon=0.03, iterations=3)

    expected = torch.tensor(reference.swav_sinkhorn(scores.double().numpy(), 0.03, 3))
    assert (plan.argmax(1) == expected.argmax(1)).float().mean() > 0.999


def test_codebook_loss_is_equation_5() -> None:
    z, _, codebook = sample(3)
    codes = [3, 0, 6, 6, 1, 2, 3, 4, 5]
    similarity = contrastive.unit(z) @ contrastive.unit(codebook).T

    ours = contrastive.codebook_loss(similarity, torch.tensor(codes), temperature=0.2)

    assert_exact(ours, reference.codebook_loss(z.numpy(), codebook.numpy(), codes, 0.2))


def test_marginals_are_met_after_50_iterations() -> None:
    random = torch.Generator().manual_seed(0)
    z = contrastive.unit(torch.randn(64, 16, generator=random))
    codebook = contrastive.unit(torch.randn(16, 16, generator=random))

    plan = contrastive.sinkhorn(z @ codebook.T, epsilon=0.05, iterations=50)

    assert (plan >= 0).all()
    torch.testing.assert_close(plan.sum(1) * 64, torch.ones(64), rtol=0, atol=1e-3)
    torch.testing.assert_close(plan.sum(0) * 16, torch.ones(16), rtol=0, atol=1e-3)


def test_codes_do_not_depend_on_the_last_normalisation() -> None:
    z, _, codebook = sample(10, 40)
    scores = contrastive.unit(z) @ contrastive.unit(codebook).T

    ours = contrastive.sinkhorn(scores, epsilon=0.05, iterations=3).argmax(1)

    plan = torch.tensor(reference.swav_sinkhorn(scores.numpy(), 0.05, 2)).T
    rows_only = plan / (plan.sum(1, keepdim=True) * len(plan))  # the third loop without columns
    assert ours.tolist() == rows_only.argmax(0).tolist()
    assert len(ours.unique()) > 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sinkhorn_computes_half_precision_in_single(dtype: torch.dtype) -> None:
    z, _, codebook = sample(11)
    scores = (contrastive.unit(z) @ contrastive.unit(codebook).T).to(dtype)

    ours = contrastive.sinkhorn(scores, epsilon=0.05, iterations=3)

    assert ours.dtype == torch.float32
    expected = contrastive.sinkhorn(scores.float(), epsilon=0.05, iterations=3)
    assert torch.equal(ours, expected)


def test_sinkhorn_has_no_gradient_and_survives_large_scores() -> None:
    z, _, codebook = sample(12)
    scores = (z @ codebook.T).requires_grad_()

    plain = contrastive.sinkhorn(scores, epsilon=1.0, iterations=3)
    shifted = contrastive.sinkhorn(scores + 1e6, epsilon=1.0, iterations=3)

    assert not plain.requires_grad
    torch.testing.assert_close(shifted, plain, rtol=1e-6, atol=1e-9)
