"""Deep Interest Network: clicks weighted by how much they matter for the candidate."""

import dataclasses
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aqcl.attention import TargetAttention
from aqcl.batch import Batch, Embedded
from aqcl.config import settings
from aqcl.contracts import Facts
from aqcl.embeddings import Embeddings
from aqcl.jagged import segment_softmax, weighted_sum
from aqcl.layers import Activation, Sizes
from aqcl.tower import Tower, TowerOptions


@settings
class DINOptions(TowerOptions):
    """Options of the backbone `din`."""

    activation: Activation = "dice"
    """Activation of the top network."""
    attention_sizes: Sizes = (80, 40)
    """Hidden sizes of the attention unit."""
    attention_activation: Activation = "sigmoid"
    """Activation inside the attention unit."""
    attention_weights: Literal["none", "softmax"] = "none"
    """`none` keeps the intensity of interests, as the paper of DIN asks; `softmax` normalises."""


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
        self.embeddings = Embeddings(facts, options)
        item_width = self.embeddings.item_width
        self.attention = TargetAttention(
            item_width, options.attention_sizes, options.attention_activation
        )
        n_inputs = self.embeddings.user_width + 3 * item_width + self.embeddings.context_width
        self.top = Tower(n_inputs, options)
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
        user, candidate = self.embeddings.user_vector(embedded), embedded.item_vector
        interest = self.interest(embedded)
        # NOTE[DIFF]: interest * candidate is an input as in the authors' code; the paper and public
        # libraries do without it.
        parts = [user, candidate, interest, interest * candidate, embedded.context_vector]
        latent: Tensor = self.top(torch.cat(parts, dim=1), embedded.activity)
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
        return weighted_sum(weights, embedded.history_vectors, segment, n_rows)

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        logit: Tensor = self.head(latent).squeeze(1) + embedded.linear
        return logit

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        return self.embeddings.items(ids)

    def embedding_tables(self) -> list[nn.Parameter]:
        return self.embeddings.tables()
