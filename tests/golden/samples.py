"""Latents that the golden tests share, and exact comparison."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

N_SAMPLES, N_CODEWORDS, DIM = 9, 7, 5


def sample(seed: int = 0, n_samples: int = N_SAMPLES) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, latents of their views and a codebook, of any lengths."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(n_samples, DIM)) * random.uniform(0.1, 9, size=(n_samples, 1))
    view = z + random.normal(size=z.shape)
    codebook = random.normal(size=(N_CODEWORDS, DIM))
    return torch.tensor(z), torch.tensor(view), torch.tensor(codebook)


def assert_exact(ours: Tensor, expected: Any) -> None:
    assert ours.dtype == torch.float64
    exact = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-9)
