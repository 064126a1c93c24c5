"""Building blocks of networks: dropout, batch normalisation, Dice, activations, MLP."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn
from torch.nn import functional as F

Activation = Literal["dice", "relu", "prelu", "sigmoid", "leaky_relu"]
Sizes = Annotated[tuple[Annotated[int, Bounds(ge=1)], ...], Bounds(min_length=1)]
"""Units of the hidden layers of a network."""
DICE_EPSILON = 1e-8


def dropout_mask(like: Tensor, rate: float, generator: Generator | None = None) -> Tensor:
    """Inverted dropout: 1 / (1 - rate), or 0 with probability `rate`, in the shape of `like`.

    `rate` is met to within 1/65536. Drawing 16 bits a number is several times faster on a CPU than
    a Bernoulli draw, and dropout is a large part of a step there.
    """
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    # Without an upper bound random_ draws all 64 bits, the highest number included.
    numbers = words.random_(-(2**63), None, generator=generator).view(torch.int16)
    lowest_kept = min(round(rate * 65536), 65535) - 32768
    mask = torch.empty_like(like, memory_format=torch.contiguous_format)
    # Compared straight into numbers: a mask of booleans would cost another three passes.
    torch.ge(numbers[: like.numel()].view(like.shape), lowest_kept, out=mask)
    return mask.div_(1.0 - rate)


class Dropout(nn.Module):
    """Inverted dropout in training, on the global generator; nothing otherwise."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        return x * dropout_mask(x, self.rate)


def look_up(table: Float[Tensor, "N ..."], ids: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`table[ids]` whose gradient repeats: that of an index adds up in any order of the threads."""
    found: Tensor = table.index_select(0, ids.flatten()).unflatten(0, ids.shape)
    return found


def seed_dropout(seed: int) -> None:
    """Seed the global generators that dropout reads; `torch.manual_seed` asks every backend."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


class BatchNorm(nn.Module):
    """Batch normalisation of (N, C) without scale and shift.

    Unlike torch's: fewer than two rows use the running statistics instead of raising, and inside
    `statistics_held` the batch's statistics are used but leave the running ones as they are.
    """

    def __init__(self, n_channels: int, *, eps: float, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.hold = False
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("mean", torch.zeros(n_channels))
        self.register_buffer("var", torch.ones(n_channels))

    def forward(self, x: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        if not self.training or x.shape[0] < 2:
            return F.batch_norm(x, self.mean, self.var, eps=self.eps)
        if self.hold:
            return F.batch_norm(x, None, None, training=True, eps=self.eps)
        return F.batch_norm(
            x, self.mean, self.var, training=True, momentum=self.momentum, eps=self.eps
        )


@contextmanager
def statistics_held(module: nn.Module) -> Iterator[None]:
    """Inside, no `BatchNorm` of `module` updates its running statistics."""
    norms = [m for m in module.modules() if isinstance(m, BatchNorm)]
    for norm in norms:
        norm.hold = True
    try:
        yield
    finally:
        for norm in norms:
            norm.hold = False


class Dice(nn.Module):
    """Data-adaptive activation: p x + (1 - p) a x with p = sigmoid(BN(x)) and a learned from 0.

    Reference: arXiv 1706.06978, section 5.3, equation 3.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm(n_channels, eps=DICE_EPSILON)
        self.slope = nn.Parameter(torch.zeros(n_channels))

    def forward(self, x: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        p = torch.sigmoid(self.norm(x))
        return x * torch.addcmul(self.slope, 1.0 - self.slope, p)


def activation(name: Activation, n_channels: int) -> nn.Module:
    """A new activation layer for (N, n_channels)."""
    match name:
        case "dice":
            return Dice(n_channels)
        case "relu":
            return nn.ReLU()
        case "prelu":
            return nn.PReLU(n_channels)
        case "sigmoid":
            return nn.Sigmoid()
        case "leaky_relu":
            return nn.LeakyReLU(0.01)


class MLP(nn.Sequential):
    """Linear, activation, dropout for each size; the last activation is the output."""

    def __init__(
        self, n_inputs: int, sizes: Sequence[int], name: Activation, dropout: float = 0.0
    ) -> None:
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [nn.Linear(n_inputs, size), activation(name, size)]
            if dropout > 0:
                layers.append(Dropout(dropout))
            n_inputs = size
        super().__init__(*layers)


def tanh_mlp(n_inputs: int, sizes: Sequence[int]) -> nn.Sequential:
    """ReLU between the layers and tanh after the last, so that dot products stay bounded."""
    widths = [n_inputs, *sizes]
    hidden = MLP(n_inputs, sizes[:-1], "relu")
    return nn.Sequential(hidden, nn.Linear(widths[-2], widths[-1]), nn.Tanh())
