"""AutoInt: self-attention between the fields, beside a deep network."""

from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Tensor, nn

from aqcl.batch import Batch, Embedded
from aqcl.config import settings
from aqcl.contracts import Facts
from aqcl.embeddings import Embeddings
from aqcl.errors import ConfigError
from aqcl.tower import Tower, TowerOptions


@settings
class AutoIntOptions(TowerOptions):
    """Options of the backbone `autoint`."""

    n_layers: Annotated[int, Bounds(ge=1)] = 3
    """Interacting layers."""
    n_heads: Annotated[int, Bounds(ge=1)] = 2
    """Heads of attention."""
    head_dim: Annotated[int, Bounds(ge=1)] | None = None
    """Width of a head; if not given, the heads share the width of an embedding."""


class InteractingLayer(nn.Module):
    """Self-attention between fields with a linear residual: relu(attended + W x).

    The products of queries and keys are not scaled, as in the paper.

    Reference: arXiv 1810.11921, section 4.4, equations 5 to 8.
    """

    def __init__(self, n_inputs: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.head_dim = head_dim
        self.query_key_value = nn.Linear(n_inputs, 3 * n_heads * head_dim, bias=False)
        self.residual = nn.Linear(n_inputs, n_heads * head_dim, bias=False)

    def forward(self, fields: Float[Tensor, "B F d"]) -> Float[Tensor, "B F heads"]:
        n_rows, n_fields, _ = fields.shape
        parts = self.query_key_value(fields)
        heads = parts.view(n_rows, n_fields, 3, self.n_heads, self.head_dim)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = (query @ key.transpose(2, 3)).softmax(-1) @ value
        return torch.relu(attended.transpose(1, 2).flatten(2) + self.residual(fields))


def head_width(options: AutoIntOptions) -> int:
    """Width of a head.

    Raises:
        ConfigError: the heads cannot share the width of an embedding equally.
    """
    dim, n_heads = options.embedding_dim, options.n_heads
    if options.head_dim is not None:
        return options.head_dim
    if dim % n_heads:
        raise ConfigError(
            f"backbone.n_heads = {n_heads} must divide backbone.embedding_dim = {dim}; "
            "change one of them or set backbone.head_dim"
        )
    return dim // n_heads


class AutoInt(nn.Module):
    """AutoInt+ over user, candidate, mean of the clicks and context.

    The latent is the attended fields and the last hidden layer of the deep network, side by side.

    Reference: arXiv 1810.11921, section 4 and, for the deep network beside it, section 5.5.
    """

    Options: ClassVar[type] = AutoIntOptions

    def __init__(self, facts: Facts, options: AutoIntOptions) -> None:
        super().__init__()
        self.embeddings = Embeddings(facts, options)
        n_fields, head_dim = self.embeddings.n_fields, head_width(options)
        attended_dim = options.n_heads * head_dim
        widths = [options.embedding_dim] + (options.n_layers - 1) * [attended_dim]
        self.interactions = nn.Sequential(
            *(InteractingLayer(width, options.n_heads, head_dim) for width in widths)
        )
        self.top = Tower(n_fields * options.embedding_dim, options)
        self.latent_dim = n_fields * attended_dim + options.sizes[-1]
        self.head = nn.Linear(self.latent_dim, 1)

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        assert isinstance(options, AutoIntOptions)
        return cls(facts, options)

    def embed(self, batch: Batch) -> Embedded:
        embedded: Embedded = self.embeddings(batch)
        return embedded

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        fields = self.embeddings.fields(embedded)
        attended = self.interactions(fields).flatten(1)
        return torch.cat([attended, self.top(fields.flatten(1), embedded.activity)], dim=1)

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        logit: Tensor = self.head(latent).squeeze(1) + embedded.linear
        return logit

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        return self.embeddings.items(ids)

    def embedding_tables(self) -> list[nn.Parameter]:
        return self.embeddings.tables()
