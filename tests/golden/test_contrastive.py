"""The contrastive losses equal slow loops written from the paper, and obey its identities."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aqcl import contrastive
from aqcl.regularizers.aqcl import AQCL, AQCLOptions
from tests.golden import reference
from tests.golden.samples import DIM, N_CODEWORDS, N_SAMPLES, assert_exact, sample

ALPHAS = torch.linspace(0, 1, N_SAMPLES, dtype=torch.float64)
T1, T2 = 0.13, 0.09


def our_aqcl(z: Tensor, view: Tensor, codebook: Tensor, alpha: Tensor, **changes: Any) -> Tensor:
    options = {"top_k": 3, "instance_temperature": T1, "cluster_temperature": T2} | changes
    return contrastive.aqcl(z, view, codebook, alpha, **options)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("n_samples", [1, 2, N_SAMPLES])
def test_info_nce_is_equation_2(n_samples: int, symmetric: bool) -> None:
    z, view, _ = sample(1, n_samples)

    ours = contrastive.info_nce(z, view, temperature=T1, symmetric=symmetric)

    assert_exact(ours, reference.info_nce(z.numpy(), view.numpy(), T1, symmetric))


@pytest.mark.parametrize(
    ("denominator", "pool", "symmetric", "top_k"),
    list(
        itertools.product(
            ["joint", "decoupled"], ["sum", "mean"], [False, True], [1, 3, N_CODEWORDS]
        )
    ),
)
def test_aqcl_is_equation_3(denominator: str, pool: str, symmetric: bool, top_k: int) -> None:
    z, view, codebook = sample(2)
    options: dict[str, Any] = {"denominator": denominator, "pool": pool, "symmetric": symmetric}

    ours = our_aqcl(z, view, codebook, ALPHAS, top_k=top_k, **options)

    expected = reference.aqcl(
        z.numpy(),
        view.numpy(),
        codebook.numpy(),
        ALPHAS.numpy(),
        top_k=top_k,
        instance_temperature=T1,
        cluster_temperature=T2,
        **options,
    )
    assert_exact(ours, expected)


GROUPS = [4, 0, 4, 1, 2, 0, 4, 3, 7]


@pytest.mark.parametrize("symmetric", [False, True])
def test_info_nce_without_negatives_of_the_same_group(symmetric: bool) -> None:
    z, view, _ = sample(20)
    ignore = contrastive.same_group(torch.tensor(GROUPS))

    ours = contrastive.info_nce(z, view, temperature=T1, symmetric=symmetric, ignore=ignore)

    assert_exact(ours, reference.info_nce(z.numpy(), view.numpy(), T1, symmetric, GROUPS))
    assert (ours < contrastive.info_nce(z, view, temperature=T1, symmetric=symmetric))[:3].all()


@pytest.mark.parametrize("denominator", ["joint", "decoupled"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_aqcl_without_negatives_of_the_same_group(denominator: str, symmetric: bool) -> None:
    z, view, codebook = sample(21)
    options: dict[str, Any] = {"denominator": denominator, "symmetric": symmetric}
    ignore = contrastive.same_group(torch.tensor(GROUPS))

    ours = our_aqcl(z, view, codebook, ALPHAS, ignore=ignore, **options)

    expected = reference.aqcl(
        z.numpy(),
        view.numpy(),
        codebook.numpy(),
        ALPHAS.numpy(),
        top_k=3,
        instance_temperature=T1,
        cluster_temperature=T2,
        groups=GROUPS,
        **options,
    )
    assert_exact(ours, expected)


@pytest.mark.parametrize("symmetric", [False, True])
def test_only_what_is_not_ignored_counts(symmetric: bool) -> None:
    """The diagonal is not read; all of one group leave the positive alone; none changes nothing."""
    z, view, _ = sample(22)
    nobody, everybody = (torch.full((N_SAMPLES, N_SAMPLES), value) for value in (False, True))

    alone = contrastive.info_nce(z, view, temperature=T1, symmetric=symmetric, ignore=everybody)
    same = contrastive.info_nce(z, view, temperature=T1, symmetric=symmetric, ignore=nobody)

    assert_exact(alone, np.zeros(N_SAMPLES))
    assert_exact(same, contrastive.info_nce(z, view, temperature=T1, symmetric=symmetric))


def test_without_clusters_the_loss_is_info_nce() -> None:
    """Without any mass by construction: codewords opposite to every latent have no mass at all."""
    z, view, _ = sample(4)
    z, view = z.abs(), view.abs()
    codebook = -torch.rand(N_CODEWORDS, DIM, generator=torch.Generator().manual_seed(0)).double()
    nobody = torch.zeros(N_SAMPLES, dtype=torch.float64)

    ours = our_aqcl(z, view, codebook, nobody, cluster_temperature=1e-4)

    assert_exact(ours, contrastive.info_nce(z, view, temperature=T1))


def test_at_alpha_0_the_codewords_only_add_to_the_denominator() -> None:
    z, view, codebook = sample(5)
    nobody = torch.zeros(N_SAMPLES, dtype=torch.float64)
    instance_only = contrastive.info_nce(z, view, temperature=T1)

    joint = our_aqcl(z, view, codebook, nobody)
    decoupled = our_aqcl(z, view, codebook, nobody, denominator="decoupled")

    own = torch.cosine_similarity(z, view) / T1
    clusters = (contrastive.unit(z) @ contrastive.unit(codebook).T / T2).exp().sum(1)
    assert_exact(((joint + own).exp() - clusters).log() - own, instance_only)
    assert (joint > instance_only).all()
    assert_exact(decoupled, instance_only)


def test_at_alpha_1_without_instances_the_loss_is_a_prototype_loss() -> None:
    z, view, codebook = sample(6)
    everybody = torch.ones(N_SAMPLES, dtype=torch.float64)
    similarity = contrastive.unit(z) @ contrastive.unit(codebook).T / T2
    nearest = similarity.topk(3).values
    prototypes = -(nearest.exp().sum(1) / similarity.exp().sum(1)).log()

    decoupled = our_aqcl(z, view, codebook, everybody, denominator="decoupled")
    # All views opposite to all latents, at a low temperature, have no mass.
    away = our_aqcl(
        z.abs(), -view.abs(), codebook, everybody, cluster_temperature=T2, instance_temperature=1e-4
    )

    similarity = contrastive.unit(z.abs()) @ contrastive.unit(codebook).T / T2
    nearest = similarity.topk(3).values
    assert_exact(decoupled, prototypes)
    assert_exact(away, -(nearest.exp().sum(1) / similarity.exp().sum(1)).log())


def joint_probabilities(z: Tensor, view: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """P(own view) and P(the nearest 3 codewords) under one softmax over views and codewords."""
    z, view, codebook = (contrastive.unit(x) for x in (z, view, codebook))
    p = torch.cat([z @ view.T / T1, z @ codebook.T / T2], dim=1).softmax(1)
    nearest = (z @ codebook.T).topk(3).indices
    return p.diagonal(), p[:, len(z) :].gather(1, nearest).sum(1)


def test_the_loss_is_a_cross_entropy_with_soft_labels() -> None:
    z, view, codebook = sample(7)
    p_own, p_interests = joint_probabilities(z, view, codebook)

    ours = our_aqcl(z, view, codebook, ALPHAS)

    assert_exact(ours, -(1 - ALPHAS) * p_own.log() - ALPHAS * p_interests.log())


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_loss_is_at_least_the_entropy_of_alpha(seed: int, symmetric: bool) -> None:
    z, view, codebook = sample(seed)
    entropy = torch.special.entr(ALPHAS) + torch.special.entr(1 - ALPHAS)

    ours = our_aqcl(z, view, codebook, ALPHAS, symmetric=symmetric)

    assert (entropy >= 0).all()
    assert (ours >= entropy - 1e-12).all()


def test_the_entropy_of_alpha_is_reached() -> None:
    """One sample whose own view and interests have exactly the mass that alpha asks for."""
    z = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    alpha = torch.tensor([0.5], dtype=torch.float64)

    ours = our_aqcl(z, z, z, alpha, top_k=1, cluster_temperature=T1)

    assert_exact(ours, [math.log(2)])


@pytest.mark.parametrize("denominator", ["joint", "decoupled"])
def test_the_derivative_by_alpha(denominator: str) -> None:
    z, view, codebook = sample(8)
    alpha = ALPHAS.clone().requires_grad_()

    our_aqcl(z, view, codebook, alpha, denominator=denominator).sum().backward()

    similarity = contrastive.unit(z) @ contrastive.unit(codebook).T / T2
    own = torch.cosine_similarity(z, view) / T1
    expected = own - similarity.topk(3).values.logsumexp(1)
    if denominator == "decoupled":
        instances = contrastive.info_nce(z, view, temperature=T1) + own
        expected = expected + similarity.logsumexp(1) - instances
    assert alpha.grad is not None
    assert_exact(alpha.grad, expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"denominator": "decoupled", "pool": "mean"},
        {"symmetric": True},
        {"ignore": contrastive.same_group(torch.tensor(GROUPS[:4]))},
        {"ignore": contrastive.same_group(torch.tensor(GROUPS[:4])), "symmetric": True},
    ],
    ids=["default", "decoupled", "symmetric", "ignore", "ignore symmetric"],
)
def test_the_loss_is_differentiated_right(options: dict[str, Any]) -> None:
    tensors = tuple(x.requires_grad_() for x in sample(9, 4))

    def loss(z: Tensor, view: Tensor, codebook: Tensor) -> Tensor:
        return our_aqcl(z, view, codebook, ALPHAS[2:6], **options)

    assert torch.autograd.gradcheck(loss, tensors)


@pytest.mark.parametrize("shape", [(4, 6), (1, 1), (6, 1), (3, 16), (3, 17)])
def test_log_sum_exp_of_products(shape: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(3)
    queries, keys = (
        torch.randn(n, 3, generator=random, dtype=torch.float64).requires_grad_() for n in shape
    )

    ours = contrastive.log_sum_exp_of_products(queries, keys)

    assert_exact(ours, (queries @ keys.T).logsumexp(1))
    assert torch.autograd.gradcheck(contrastive.log_sum_exp_of_products, (queries, keys))


def test_log_sum_exp_of_large_products_is_finite() -> None:
    queries = torch.tensor([[1e4], [-1e4]], requires_grad=True)

    ours = contrastive.log_sum_exp_of_products(queries, torch.tensor([[1.0], [0.9]]))
    ours.sum().backward()

    torch.testing.assert_close(ours, torch.tensor([1e4, -9e3]))
    assert queries.grad is not None
    torch.testing.assert_close(queries.grad, torch.tensor([[1.0], [0.9]]))


@pytest.mark.parametrize("symmetric", [False, True])
def test_zero_vectors_are_finite(symmetric: bool) -> None:
    z, view, codebook = sample(13)
    z[0], view[1], codebook[2] = 0.0, 0.0, 0.0
    z.requires_grad_()

    ours = our_aqcl(z, view, codebook, ALPHAS, symmetric=symmetric)
    ours.sum().backward()

    assert ours.isfinite().all()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_identical_latents_cannot_be_told_apart() -> None:
    z = torch.ones(6, DIM, dtype=torch.float64)

    one_way = contrastive.info_nce(z, z, temperature=0.1)
    symmetric = contrastive.info_nce(z, z, temperature=0.1, symmetric=True)

    assert_exact(one_way, np.full(6, math.log(6)))
    assert_exact(symmetric, np.full(6, math.log(11)))
    assert contrastive.uniformity(z).item() == pytest.approx(0.0)


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures_are_finite_in_single_precision(temperature: float) -> None:
    z, view, codebook = (x.float().requires_grad_() for x in sample(14))

    ours = our_aqcl(
        z,
        view,
        codebook,
        ALPHAS.float(),
        instance_temperature=temperature,
        cluster_temperature=temperature,
    )
    ours.sum().backward()

    assert ours.isfinite().all()
    for tensor in (z, view, codebook):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_more_positives_than_codewords_are_all_codewords(pool: str) -> None:
    z, view, codebook = sample(15)

    ours = our_aqcl(z, view, codebook, ALPHAS, top_k=N_CODEWORDS + 1, pool=pool)

    assert_exact(ours, our_aqcl(z, view, codebook, ALPHAS, top_k=N_CODEWORDS, pool=pool))


def test_a_module_with_more_positives_than_codewords_works() -> None:
    options = AQCLOptions(n_codewords=3, top_k=5, dim=DIM, warmup_steps=0)
    module = AQCL(DIM, 6.9, options)
    z, view, _ = (x.float() for x in sample(16))

    assert module(z, view, torch.zeros(N_SAMPLES)).value.isfinite()


def test_lengths_do_not_matter() -> None:
    z, view, codebook = sample(17)

    assert_exact(
        our_aqcl(3 * z, view / 7, 2 * codebook, ALPHAS), our_aqcl(z, view, codebook, ALPHAS)
    )


def test_uniformity_is_its_definition() -> None:
    z, _, _ = sample(18)
    unit = [row / np.linalg.norm(row) for row in z.numpy()]
    pairs = [math.exp(-2 * float(((a - b) ** 2).sum())) for a, b in itertools.permutations(unit, 2)]

    assert_exact(contrastive.uniformity(z), math.log(sum(pairs) / len(pairs)))


@pytest.mark.parametrize("n_samples", [1, 2, N_SAMPLES])
@pytest.mark.parametrize("top_k", [1, 3, N_CODEWORDS])
def test_the_fast_form_has_the_gradients_of_the_general_one(n_samples: int, top_k: int) -> None:
    leaves = [*sample(5, n_samples), ALPHAS[:n_samples].clone()]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    weight = torch.linspace(0.5, 2, n_samples, dtype=torch.float64)
    # Marks that change nothing lead past the fast form.
    general_only = {"ignore": torch.zeros(n_samples, n_samples, dtype=torch.bool)}

    fast = our_aqcl(*leaves, top_k=top_k)
    general = our_aqcl(*leaves, top_k=top_k, **general_only)

    torch.testing.assert_close(fast, general, rtol=0, atol=1e-12)
    ours = torch.autograd.grad((weight * fast).sum(), leaves)
    theirs = torch.autograd.grad((weight * general).sum(), leaves)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@given(st.integers(0, 40), st.integers(2, 12))
def test_blocks_cut_the_batch_into_nearly_equal_runs(n_samples: int, size: int) -> None:
    cut = contrastive.blocks(n_samples, size)
    lengths = [block.stop - block.start for block in cut]

    assert [i for block in cut for i in range(n_samples)[block]] == list(range(n_samples))
    assert len(cut) == max(math.ceil(n_samples / size), 1)
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert contrastive.blocks(n_samples, None) == [slice(0, n_samples)]
