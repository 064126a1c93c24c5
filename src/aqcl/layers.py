"""Building blocks of backbones: embeddings, MLP, Dice, jagged pooling, target attention."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from aqcl.batch import Batch, Embedded
from aqcl.schema import UNKNOWN, Field, Schema

Activation = Literal["dice", "relu", "prelu", "sigmoid", "leaky_relu"]
DICE_EPSILON = 1e-8


def dropout_mask(like: Tensor, rate: float, generator: Generator | None = None) -> Tensor:
    """Inverted dropout: 1 / (1 - rate), or 0 with probability `rate`, in the shape of `like`.

    `rate` is met to within 1/65536. Drawing 16 bits a number is several times faster on a CPU than
    a Bernoulli draw, and dropout is a large part of a step there.
    """
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    # From the lowest to one below the highest: random_ excludes its upper bound.
    numbers = words.random_(-(2**63), None, generator=generator).view(torch.int16)
    lowest_kept = min(round(rate * 65536), 65535) - 32768
    kept = numbers[: like.numel()].view(like.shape) >= lowest_kept
    return kept.to(like.dtype).div_(1.0 - rate)


class Dropout(nn.Module):
    """Inverted dropout in training, on the global generator; nothing otherwise."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        return x * dropout_mask(x, self.rate)


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
    """Inside, no `BatchNorm` of `module` updates its running statistics (METHODS: view passes)."""
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
        return x * torch.lerp(self.slope.expand_as(p), torch.ones_like(p), p)


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


class Attributes(nn.Module):
    """Embeds the attribute columns of one side.

    Columns of users and items are tables (one row per entity) kept here as buffers, so that
    weights are complete without the dataset; context columns come with the batch.
    """

    def __init__(self, fields: Sequence[Field], dim: int, tables: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.dim = dim
        # Numbered, because a column may be called `type` or `a.b`, which no parameter can be.
        self.weights = nn.ParameterList()
        for number, field in enumerate(self.fields):
            n_rows = 2 if field.kind == "numeric" else field.size
            self.weights.append(nn.Parameter(torch.empty(n_rows, dim)))
            if field.side != "context":
                table = torch.from_numpy(np.array(tables[field.name]))
                self.register_buffer(f"table_{number}", table)

    def forward(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N F d"]:
        """Vectors of the attributes of entities."""
        columns = [self.get_buffer(f"table_{n}")[ids] for n in range(len(self.fields))]
        return self._embed(columns, ids)

    def of_context(self, batch: Batch) -> Float[Tensor, "B F d"]:
        """Vectors of the context columns of a batch."""
        return self._embed([batch.context[field.name] for field in self.fields], batch.user)

    def _embed(self, columns: Sequence[Tensor], ids: Tensor) -> Tensor:
        if not columns:
            return torch.zeros(ids.shape[0], 0, self.dim, device=ids.device)
        parts = zip(self.fields, self.weights, columns, strict=True)
        return torch.stack([self._column(*part) for part in parts], dim=1)

    def _column(self, field: Field, weight: Tensor, column: Tensor) -> Float[Tensor, "N d"]:
        if field.kind == "numeric":
            # A line through the standardised value: slope in row 0, intercept in row 1.
            scaled = (column.to(weight.dtype) - field.mean) / field.std
            return scaled[:, None] * weight[0] + weight[1]
        values = column.long().unsqueeze(1).flatten(1)  # (N, values per row)
        present = (values > 0).to(weight.dtype)
        total = (weight[values] * present[..., None]).sum(1)
        return total / present.sum(1, keepdim=True).clamp(min=1.0)


class Embeddings(nn.Module):
    """The embedding layer shared by all backbones: a `Batch` in, an `Embedded` out.

    The candidate and the clicks share the item tables. In training a random `id_dropout` of
    user, item and click ids are looked up as the unknown id, so that its row is trained.

    Args:
        schema: columns and vocabulary sizes.
        attributes: per-entity column of each user and item field.
        dim: width d of every vector.
        id_dropout: share of ids replaced by the unknown id, in training only.
        init_std: standard deviation of the initial vectors.
    """

    def __init__(
        self,
        schema: Schema,
        attributes: Mapping[str, np.ndarray],
        *,
        dim: int,
        id_dropout: float,
        init_std: float,
    ) -> None:
        super().__init__()
        self.schema = schema
        self.dim = dim
        self.id_dropout = id_dropout
        self.user_table = nn.Parameter(torch.empty(schema.n_users, dim))
        self.item_table = nn.Parameter(torch.empty(schema.n_items, dim))
        self.user_attributes = Attributes(schema.on("user"), dim, attributes)
        self.item_attributes = Attributes(schema.on("item"), dim, attributes)
        self.context_attributes = Attributes(schema.on("context"), dim, attributes)
        for table in self.parameters():
            nn.init.normal_(table, std=init_std)
        with torch.no_grad():
            for table in (self.user_table, self.item_table):
                table[0] = 0.0

    def forward(self, batch: Batch) -> Embedded:
        """Look all ids of a batch up."""
        # One look-up serves the candidates and the clicks, so there is one dense gradient.
        n_rows = len(batch)
        items = self.items(torch.cat([batch.item, batch.history]))
        user_id = self._look_up(self.user_table, batch.user)
        return Embedded(
            user=torch.cat([user_id[:, None], self.user_attributes(batch.user)], dim=1),
            item=items[:n_rows],
            context=self.context_attributes.of_context(batch),
            history=items[n_rows:],
            segment=batch.segment,
            offsets=batch.offsets,
            keep=None,
            activity=batch.activity,
            linear=items.new_zeros(n_rows),
        )

    def items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        """Vectors of items: the id first, then the attributes."""
        id_vector = self._look_up(self.item_table, ids)[:, None]
        if not self.item_attributes.fields:
            return id_vector
        return torch.cat([id_vector, self.item_attributes(ids)], dim=1)

    def tables(self) -> list[nn.Parameter]:
        """What the embedding penalty acts on: id and attribute tables."""
        return list(self.parameters())

    def _look_up(self, table: nn.Parameter, ids: Tensor) -> Float[Tensor, "N d"]:
        known = torch.where(ids < table.shape[0], ids, UNKNOWN)
        if self.training and self.id_dropout > 0:
            dropped = torch.rand(ids.shape, device=ids.device) < self.id_dropout
            known = torch.where(dropped, UNKNOWN, known)
        return table.index_select(0, known)


def segment_sum(
    values: Float[Tensor, "S D"], segment: Int[Tensor, " S"], n_rows: int
) -> Float[Tensor, "B D"]:
    """Sum the values of each row; a row without values is zero."""
    return values.new_zeros(n_rows, values.shape[1]).index_add(0, segment, values)


def segment_softmax(
    scores: Float[Tensor, " S"], segment: Int[Tensor, " S"], n_rows: int
) -> Float[Tensor, " S"]:
    """Softmax over the values of each row."""
    top = scores.new_full((n_rows,), -torch.inf)
    top = top.scatter_reduce(0, segment, scores.detach(), "amax")
    raised = torch.exp(scores - top[segment])
    return raised / scores.new_zeros(n_rows).index_add(0, segment, raised)[segment]


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
