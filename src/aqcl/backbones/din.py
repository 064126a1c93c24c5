"""Deep Interest Network: clicks weighted by how much they matter for the candidate."""

import dataclasses
from typing import Annotated, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Tensor, nn

from aqcl.batch import Batch, Embedded
from aqcl.config import settings
from aqcl.contracts import Facts
from aqcl.layers import (
    MLP,
    Activation,
    Embeddings,
    TargetAttention,
    segment_softmax,
    segment_sum,
)


@settings
class DINOptions:
    """Options of the backbone `din`."""

    embedding_dim: Annotated[int, Bounds(ge=1)] = 16
    """Width of every embedding vector."""
    embedding_std: Annotated[float, Bounds(ge=0)] = 0.01
    """Standard deviation of the initial embedding vectors."""
    id_dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.01
    """Share of ids replaced by the unknown id in training, so that its vector is trained."""
    user_id: bool = True
    """Whether the user's id is an input."""
    attention_sizes: Annotated[tuple[int, ...], Bounds(min_length=1)] = (80, 40)
    """Hidden sizes of the attention unit."""
    attention_activation: Activation = "sigmoid"
    """Activation inside the attention unit."""
    attention_weights: Literal["none", "softmax"] = "none"
    """`none` keeps the intensity of interests, as the paper of DIN asks; `softmax` normalises."""
    sizes: Annotated[tuple[int, ...], Bounds(min_length=1)] = (200, 80)
    """Hidden sizes of the top network; the last one is the latent."""
    activation: Activation = "dice"
    """Activation of the top network."""
    dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.2
    """Dropout after each layer of the top network."""


class DIN(nn.Module):
    """Deep Interest Network.

    Input of the top network: user, candidate, attended history, history * candidate, context.
    An empty history is the zero vector.

    Reference: arXiv 1706.06978.
    """

    Options: ClassVar[type] = DINOptions

    def __init__(self, facts: Facts, options: DINOptions) -> None:
        super().__init__()
        self.options = options
        self.embeddings = Embeddings(
            facts.schema,
            facts.attributes,
            dim=options.embedding_dim,
            id_dropout=options.id_dropout,
            init_std=options.embedding_std,
        )
        item_dim = (1 + len(facts.schema.on("item"))) * options.embedding_dim
        n_user_vectors = int(options.user_id) + len(facts.schema.on("user"))
        other_dim = (n_user_vectors + len(facts.schema.on("context"))) * options.embedding_dim
        self.attention = TargetAttention(
            item_dim, options.attention_sizes, options.attention_activation
        )
        self.top = MLP(3 * item_dim + other_dim, options.sizes, options.activation, options.dropout)
        self.head = nn.Linear(options.sizes[-1], 1)
        self.latent_dim = options.sizes[-1]

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        assert isinstance(options, DINOptions)
        return cls(facts, options)

    def embed(self, batch: Batch) -> Embedded:
        embedded: Embedded = self.embeddings(batch)
        return embedded

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        candidate = embedded.item_vector
        user = embedded.user if self.options.user_id else embedded.user[:, 1:]
        interest = self.interest(embedded)
        parts = [user.flatten(1), candidate, interest, interest * candidate]
        latent: Tensor = self.top(torch.cat([*parts, embedded.context.flatten(1)], dim=1))
        return latent

    def attend(self, embedded: Embedded) -> Embedded:
        scores = self.attention(embedded.item_vector, embedded.history_vectors, embedded.segment)
        return dataclasses.replace(embedded, scores=scores)

    def interest(self, embedded: Embedded) -> Float[Tensor, "B width"]:
        """The attended history of each row."""
        embedded = embedded.without_masked()
        if embedded.scores is None:
            embedded = self.attend(embedded)
        weights, segment, n_rows = embedded.scores, embedded.segment, embedded.item.shape[0]
        assert weights is not None
        if self.options.attention_weights == "softmax":
            weights = segment_softmax(weights, segment, n_rows)
        return segment_sum(weights[:, None] * embedded.history_vectors, segment, n_rows)

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        logit: Tensor = self.head(latent).squeeze(1) + embedded.linear
        return logit

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        return self.embeddings.items(ids)

    def embedding_tables(self) -> list[nn.Parameter]:
        return self.embeddings.tables()
