"""Operations on jagged histories: sums and softmax by row, and the way to padded ones and back.

All clicks of a batch stand one after the other, (S, ...); `segment` names the row of each,
ascending, and row b owns offsets[b]:offsets[b+1].
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from aqcl.layers import look_up


def segment_sum(
    values: Float[Tensor, "S D"], segment: Int[Tensor, " S"], n_rows: int
) -> Float[Tensor, "B D"]:
    """Sum the values of each row; a row without values is zero. Not twice differentiable."""
    if torch.compiler.is_exporting():
        return values.new_zeros(n_rows, values.shape[1]).index_add(0, segment, values)
    rows: Tensor = _SegmentSum.apply(values, segment, n_rows)  # type: ignore[no-untyped-call]
    return rows


def weighted_sum(
    weights: Float[Tensor, " S"],
    values: Float[Tensor, "S D"],
    segment: Int[Tensor, " S"],
    n_rows: int,
) -> Float[Tensor, "B D"]:
    """`segment_sum(weights[:, None] * values)` without making that product."""
    if torch.compiler.is_exporting():
        return segment_sum(weights[:, None] * values, segment, n_rows)
    rows: Tensor = _WeightedSum.apply(weights, values, segment, n_rows)  # type: ignore[no-untyped-call]
    return rows


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, segment: Tensor, n_rows: int) -> Tensor:
        ctx.save_for_backward(segment)
        return sorted_sums(values, segment, n_rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (segment,) = ctx.saved_tensors
        return gradient.index_select(0, segment), None, None


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, weights: Tensor, values: Tensor, segment: Tensor, n_rows: int
    ) -> Tensor:
        ctx.save_for_backward(weights, values, segment)
        return sorted_sums(values, segment, n_rows, weights.to(values.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weights, values, segment = ctx.saved_tensors
        each = gradient.index_select(0, segment)
        of_weights = (each * values).sum(1).to(weights.dtype)
        return of_weights, each * weights[:, None].to(values.dtype), None, None


def sorted_sums(
    values: Float[Tensor, "S D"],
    segment: Int[Tensor, " S"],
    n_rows: int,
    weights: Float[Tensor, " S"] | None = None,
) -> Float[Tensor, "B D"]:
    """`segment_sum` of weighted values without a gradient: several times quicker than `index_add`.

    It sums neighbours in one pass over memory, for which `segment` must ascend.
    """
    if not len(values):  # of which `embedding_bag` would make no rows at all
        return values.new_zeros(n_rows, values.shape[1])
    bounds = torch.zeros(n_rows + 1, dtype=torch.int64, device=segment.device)
    torch.cumsum(torch.bincount(segment, minlength=n_rows), 0, out=bounds[1:])
    places = torch.arange(len(values), device=values.device)
    return F.embedding_bag(
        places,
        values.contiguous(),
        bounds,
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )


def segment_softmax(
    scores: Float[Tensor, " S"], segment: Int[Tensor, " S"], n_rows: int
) -> Float[Tensor, " S"]:
    """Softmax over the values of each row."""
    top = scores.new_full((n_rows,), -torch.inf)
    top = top.scatter_reduce(0, segment, scores.detach(), "amax")
    raised = torch.exp(scores - look_up(top, segment))
    return raised / look_up(scores.new_zeros(n_rows).index_add(0, segment, raised), segment)


def segment_mean(
    values: Float[Tensor, "S D"], segment: Int[Tensor, " S"], n_rows: int
) -> Float[Tensor, "B D"]:
    """Mean of the values of each row; a row without values is zero."""
    counts = values.new_zeros(n_rows).index_add(0, segment, values.new_ones(len(segment)))
    return segment_sum(values, segment, n_rows) / counts.clamp(min=1.0)[:, None]


def positions(segment: Int[Tensor, " S"], offsets: Int[Tensor, " bounds"]) -> Int[Tensor, " S"]:
    """Place of each click within its row, from 0, the oldest."""
    return torch.arange(len(segment), device=segment.device) - offsets[segment]


def recency(segment: Int[Tensor, " S"], offsets: Int[Tensor, " bounds"]) -> Int[Tensor, " S"]:
    """Place of each click within its row, from 0, the latest."""
    return offsets.diff()[segment] - 1 - positions(segment, offsets)


def padded_length(offsets: Int[Tensor, " bounds"], limit: int) -> int:
    """How long padded histories must be: the longest row, or `limit` in an exported graph.

    A graph with one static length serves every batch; eager code need not pay for it. No row may
    be longer than `limit`.
    """
    if torch.compiler.is_exporting() or len(offsets) < 2:
        return limit
    return max(int(offsets.diff().max()), 1)


def pad(
    values: Float[Tensor, "S D"],
    segment: Int[Tensor, " S"],
    offsets: Int[Tensor, " bounds"],
    length: int,
) -> Float[Tensor, "B {length} D"]:
    """Rows side by side, oldest click first, zeros behind the last."""
    n_rows = len(offsets) - 1
    cells = values.new_zeros(n_rows * length, values.shape[1])
    cells = cells.index_copy(0, segment * length + positions(segment, offsets), values)
    return cells.view(n_rows, length, values.shape[1])


def unpad(
    padded: Float[Tensor, "B L D"], segment: Int[Tensor, " S"], offsets: Int[Tensor, " bounds"]
) -> Float[Tensor, "S D"]:
    """What `pad` made, jagged again."""
    cells = segment * padded.shape[1] + positions(segment, offsets)
    return padded.flatten(0, 1).index_select(0, cells)


def present(offsets: Int[Tensor, " bounds"], length: int) -> Bool[Tensor, "B {length}"]:
    """Which cells of padded histories hold a click."""
    return torch.arange(length, device=offsets.device) < offsets.diff()[:, None]
