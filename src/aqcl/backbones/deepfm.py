"""DeepFM: a factorization machine and a deep network on the same embeddings."""

import dataclasses
from typing import ClassVar, Self

from jaxtyping import Float, Int
from torch import Tensor, nn

from aqcl.batch import Batch, Embedded
from aqcl.contracts import Facts
from aqcl.embeddings import Embeddings, FirstOrder, pairwise_products
from aqcl.tower import Tower, TowerOptions


class DeepFM(nn.Module):
    """DeepFM.

    Fields: user, candidate, mean of the clicks, context. The logit adds the first-order weights,
    the inner product of each pair of fields and the deep network's output.

    Reference: arXiv 1703.04247, section 2.1, equations 1 to 4.
    """

    Options: ClassVar[type] = TowerOptions

    def __init__(self, facts: Facts, options: TowerOptions) -> None:
        super().__init__()
        self.embeddings = Embeddings(facts, options)
        self.first_order = FirstOrder(facts, options)
        self.top = Tower(self.embeddings.n_fields * options.embedding_dim, options)
        self.head = nn.Linear(options.sizes[-1], 1)
        self.latent_dim = options.sizes[-1]

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        assert isinstance(options, TowerOptions)
        return cls(facts, options)

    def embed(self, batch: Batch) -> Embedded:
        known = self.embeddings.known(batch)
        embedded: Embedded = self.embeddings(batch, known)
        return dataclasses.replace(embedded, linear=self.first_order(batch, known))

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        inputs = self.embeddings.fields(embedded).flatten(1)
        latent: Tensor = self.top(inputs, embedded.activity)
        return latent

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        pairs = pairwise_products(self.embeddings.fields(embedded)).sum(1)
        logit: Tensor = self.head(latent).squeeze(1) + pairs + embedded.linear
        return logit

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        return self.embeddings.items(ids)

    def embedding_tables(self) -> list[nn.Parameter]:
        return self.embeddings.tables()
