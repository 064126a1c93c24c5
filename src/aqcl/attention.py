"""Attention over histories: DIN's unit for a candidate, and self-attention between the clicks."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from aqcl.errors import ConfigError
from aqcl.jagged import sorted_sums
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
        # Not below fp32: there are as many clicks as it happens, and a library that makes its bf16
        # kernels for each number of rows anew would spend its time and memory on that.
        dtype = self.first.weight.dtype
        candidate, clicks = candidate.to(dtype), clicks.to(dtype)
        with torch.autocast(candidate.device.type, enabled=False):
            if isinstance(self.first_activation, nn.Sigmoid) and not torch.compiler.is_exporting():
                return self._sigmoid_unit(candidate, clicks, segment)
            return self._plain(candidate, clicks, segment)

    def _plain(self, candidate: Tensor, clicks: Tensor, segment: Tensor) -> Tensor:
        of_row, of_click = _factored(self.first.weight)
        per_row = F.linear(candidate, of_row, self.first.bias)
        inputs = torch.cat([clicks, clicks * candidate.index_select(0, segment)], dim=1)
        per_click = F.linear(inputs, of_click)
        hidden = self.first_activation(per_click + per_row.index_select(0, segment))
        scores: Tensor = self.last(self.rest(hidden))
        return scores.squeeze(1)

    def _sigmoid_unit(self, candidate: Tensor, clicks: Tensor, segment: Tensor) -> Tensor:
        layers = [self.first, *(layer for layer in self.rest if isinstance(layer, nn.Linear))]
        parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
        bias: Tensor | None = self.last.bias  # which a model may have taken away
        parameters += [self.last.weight, self.last.weight.new_zeros(1) if bias is None else bias]
        scores: Tensor = _SigmoidUnit.apply(segment, candidate, clicks, *parameters)  # type: ignore[no-untyped-call]
        return scores


def _factored(weight: Float[Tensor, "H inputs"]) -> tuple[Tensor, Tensor]:
    """The first layer's weights by [e_a, e_t, e_a - e_t, e_a * e_t], by e_a and by the clicks'.

    Returns:
        Those of the candidate e_a alone, and those of [e_t, e_a * e_t].
    """
    of_candidate, of_click, of_difference, of_product = weight.chunk(4, dim=1)
    return of_candidate + of_difference, torch.cat([of_click - of_difference, of_product], dim=1)


class _SigmoidUnit(torch.autograd.Function):
    """DIN's unit with sigmoids and its gradient, in as few buffers as there are layers.

    Histories are too long for a processor's nearest cache, so that what autograd would make and
    keep between two operations costs as much as the products themselves. Not twice differentiable.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, segment: Tensor, candidate: Tensor, clicks: Tensor, *parameters: Tensor
    ) -> Tensor:
        dim = candidate.shape[1]
        first, bias, *others = parameters
        of_row, of_click = _factored(first)
        each = candidate.index_select(0, segment)
        inputs = torch.cat([clicks, each], dim=1)
        inputs[:, dim:] *= clicks
        per_row = torch.addmm(bias, candidate, of_row.T)
        hidden = [per_row.index_select(0, segment).addmm_(inputs, of_click.T).sigmoid_()]
        weights, biases = others[::2], others[1::2]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            hidden.append(torch.addmm(bias, hidden[-1], weight.T).sigmoid_())
        scores = torch.addmm(biases[-1], hidden[-1], weights[-1].T)
        ctx.save_for_backward(candidate, each, inputs, segment, first, *weights, *hidden)
        return scores.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        candidate, each, inputs, segment, first, *rest = ctx.saved_tensors
        n_layers, dim = len(rest) // 2, candidate.shape[1]
        weights, hidden = rest[:n_layers], rest[n_layers:]
        of_row, of_click = _factored(first)
        outer = gradient[:, None]
        grads: list[Tensor] = []
        for weight, below in zip(reversed(weights), reversed(hidden), strict=True):
            grads = [outer.T @ below, outer.sum(0), *grads]
            outer = outer @ weight
            torch.ops.aten.sigmoid_backward(outer, below, grad_input=outer)
        per_row = sorted_sums(outer, segment, len(candidate))
        d_of_row, d_of_click, d_inputs = per_row.T @ candidate, outer.T @ inputs, outer @ of_click
        d_click, d_product = d_of_click.split(dim, dim=1)
        d_first = torch.cat([d_of_row, d_click, d_of_row - d_click, d_product], dim=1)
        own, product = d_inputs.split(dim, dim=1)
        to_candidate = sorted_sums(product * inputs[:, :dim], segment, len(candidate))
        to_candidate.addmm_(per_row, of_row)
        to_clicks = torch.addcmul(own, product, each)
        return None, to_candidate, to_clicks, d_first, per_row.sum(0), *grads


def check_heads(key: str, n_heads: int, width: int) -> None:
    """Refuse heads of self-attention that cannot share the width of a click equally.

    Args:
        key: of the setting that says how many heads there are.
        n_heads: its value.
        width: of a click, its fields side by side.

    Raises:
        ConfigError: the heads do not divide the width.
    """
    if width % n_heads:
        raise ConfigError(
            f"{key} = {n_heads} must divide the width {width} of a click, which is "
            "backbone.embedding_dim for each of its fields; change one of the two"
        )


class SelfAttentionBlock(nn.Module):
    """A transformer layer over padded histories: normalise, attend, add; normalise, MLP, add.

    A cell without a click attends to itself alone, so an empty history gives no NaN.

    Reference: arXiv 1808.09781, section 3.2; arXiv 1706.03762.
    """

    def __init__(self, dim: int, n_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        assert dim % n_heads == 0
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
