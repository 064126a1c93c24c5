"""Attention over histories: DIN's unit for a candidate, and self-attention between the clicks."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from aqcl.errors import ConfigError
from aqcl.layers import MLP, Activation, Dropout, activation


class TargetAttention(nn.Module):
    """DIN's attention unit: how much each click matters for the candidate.

    score = MLP([e_a, e_t, e_a - e_t, e_a * e_t]) for candidate e_a and click e_t. The first layer
    is evaluated in factored form: its candidate part once per row and not once per click.

    Reference: arXiv 1706.06978, section 4.3; the input follows the authors' code.
    """

    def __init__(self, dim: int, sizes: Sequence[int], name: Activation) -> None:
        super().__init__()
        self.first = nn.Linear(4 * dim, sizes[0])
        self.first_activation = activation(name, sizes[0])
        self.rest = MLP(sizes[0], sizes[1:], name)
        self.last = nn.Linear(sizes[-1], 1)

    def forward(
        self,
        candidate: Float[Tensor, "B D"],
        clicks: Float[Tensor, "S D"],
        segment: Int[Tensor, " S"],
    ) -> Float[Tensor, " S"]:
        of_candidate, of_click, of_difference, of_product = self.first.weight.chunk(4, dim=1)
        per_row = F.linear(candidate, of_candidate + of_difference, self.first.bias)
        products = clicks * candidate.index_select(0, segment)
        per_click = F.linear(
            torch.cat([clicks, products], dim=1),
            torch.cat([of_click - of_difference, of_product], dim=1),
        )
        hidden = self.first_activation(per_click + per_row.index_select(0, segment))
        scores: Tensor = self.last(self.rest(hidden))
        return scores.squeeze(1)


class SelfAttentionBlock(nn.Module):
    """A transformer layer over padded histories: normalise, attend, add; normalise, MLP, add.

    A cell without a click attends to itself alone, so an empty history gives no NaN.

    Reference: arXiv 1808.09781, section 3.2; arXiv 1706.03762.
    """

    def __init__(self, dim: int, n_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        if dim % n_heads:
            raise ConfigError(f"n_heads = {n_heads} must divide the width {dim} of a click")
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        self.network_norm = nn.LayerNorm(dim)
        self.network = nn.Sequential(
            nn.Linear(dim, hidden_dim), nn.ReLU(), Dropout(dropout), nn.Linear(hidden_dim, dim)
        )
        self.dropout = Dropout(dropout)

    def forward(
        self, clicks: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"], *, causal: bool
    ) -> Float[Tensor, "B L D"]:
        n_rows, length, dim = clicks.shape
        itself = torch.eye(length, dtype=torch.bool, device=mask.device)
        visible = mask[:, None, :] & mask[:, :, None] | itself
        if causal:
            visible = visible & torch.ones_like(itself).tril()
        parts = self.query_key_value(self.attention_norm(clicks))
        heads = parts.view(n_rows, length, 3, self.n_heads, dim // self.n_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, visible[:, None])
        mixed = self.mix(attended.transpose(1, 2).flatten(2))
        clicks = clicks + self.dropout(mixed)
        after: Tensor = clicks + self.dropout(self.network(self.network_norm(clicks)))
        return after
