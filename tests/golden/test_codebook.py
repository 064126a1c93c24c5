"""How codewords start, move and are read: equal to slow loops written from the formulas."""

import numpy as np
import pytest
import torch
from torch import Tensor

from aqcl import codebook as codewords
from aqcl.contrastive import unit
from tests.golden import reference

N_SAMPLES, N_CODEWORDS, DIM = 9, 7, 5


def tensors(seed: int, n_samples: int = N_SAMPLES) -> tuple[Tensor, Tensor]:
    """Latents of any length and codewords of length one."""
    random = torch.Generator().manual_seed(seed)
    z = 4 * torch.randn(n_samples, DIM, generator=random, dtype=torch.float64)
    return z, unit(torch.randn(N_CODEWORDS, DIM, generator=random, dtype=torch.float64))


@pytest.mark.parametrize("decay", [0.0, 0.6, 0.99])
def test_the_codebook_moves_by_spherical_k_means(decay: float) -> None:
    """Codeword 6 never gets a sample; 5 only in the first step."""
    _, start = tensors(0)
    codes = [[0, 1, 2, 3, 4, 5, 5, 0, 0], [4, 4, 1, 0, 2, 3, 3, 3, 1], [0, 0, 0, 1, 2, 3, 4, 4, 2]]
    steps = [(tensors(seed)[0], code) for seed, code in enumerate(codes, 1)]
    book, sums = start, torch.zeros_like(start)

    for z, code in steps:
        book, sums = codewords.moved_codebook(book, sums, z, torch.tensor(code), decay=decay)

    used = [0, 1, 2, 3, 4] if decay == 0 else [0, 1, 2, 3, 4, 5]
    known = [(z.numpy(), code) for z, code in steps]
    expected, counts = reference.spherical_k_means(start.numpy(), known, decay)
    np.testing.assert_allclose(book.numpy()[used], expected[used], rtol=0, atol=1e-12)
    assert torch.equal(book[6], start[6])
    assert counts[6] == 0
    torch.testing.assert_close(book.norm(dim=1), torch.ones_like(book[:, 0]))


def test_a_codeword_that_is_out_of_use_stays_where_it_is() -> None:
    """In single precision its sum is zero after some thousand steps."""
    z, start = (x.float() for x in tensors(4))
    codes = torch.zeros(N_SAMPLES, dtype=torch.int64)
    book, sums = codewords.moved_codebook(start, torch.zeros_like(start), z, codes + 1, decay=0.9)
    before = book[1].clone()

    for _ in range(1500):
        book, sums = codewords.moved_codebook(book, sums, z, codes, decay=0.9)

    assert sums[1].norm() == 0
    torch.testing.assert_close(book[1], before)


@pytest.mark.parametrize("top_k", [1, 3, N_CODEWORDS, N_CODEWORDS + 2])
def test_the_readout_is_its_formula(top_k: int) -> None:
    z, book = tensors(5)
    book = book * torch.arange(1.0, N_CODEWORDS + 1, dtype=torch.float64)[:, None]
    alpha = torch.linspace(0, 1, N_SAMPLES, dtype=torch.float64)

    ours = alpha[:, None] * codewords.interest_readout(z, book, top_k, 0.2)

    expected = reference.readout(z.numpy(), book.numpy(), alpha.numpy(), top_k, 0.2)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=1e-12)


def test_the_readout_is_differentiated_right() -> None:
    z, book = (x.requires_grad_() for x in tensors(6, 3))

    assert torch.autograd.gradcheck(
        lambda z, q: codewords.interest_readout(z, q, 3, 0.3), (z, book)
    )


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (3, 3), (99, 6)])
def test_latents_are_chosen_once_each_and_never_the_empty_ones(count: int, expected: int) -> None:
    z, _ = tensors(7, 6)
    stored = torch.cat([torch.zeros(3, DIM, dtype=torch.float64), z, z])

    chosen = codewords.spread(stored, count)

    assert chosen.shape == (expected, DIM)
    assert len(torch.unique(chosen, dim=0)) == expected
    assert all((row == z).all(1).any() for row in chosen)


def test_nothing_is_chosen_of_nothing() -> None:
    assert codewords.spread(torch.zeros(8, DIM), 4).shape == (0, DIM)
