"""Factorization machine: a weight for each value and an inner product for each pair of fields."""

import dataclasses
from typing import ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aqcl.batch import Batch, Embedded
from aqcl.contracts import Facts
from aqcl.embeddings import EmbeddingOptions, Embeddings, FirstOrder, pairwise_products


class FM(nn.Module):
    """Factorization machine of second order.

    The latent is the sum over all pairs of fields of the elementwise product of their vectors; its
    sum is the sum of the inner products.

    Reference: Rendle, Factorization Machines, ICDM 2010, section III, equation 1 and lemma 3.1.
    """

    # NOTE[DIFF]: In FM a field of many values (the clicks, a list of categories) counts as the
    # mean of its vectors, so its values do not interact with each other, and a clicked item has
    # the vector and first-order weight that it has as the candidate.

    Options: ClassVar[type] = EmbeddingOptions

    def __init__(self, facts: Facts, options: EmbeddingOptions) -> None:
        super().__init__()
        self.embeddings = Embeddings(facts, options)
        self.first_order = FirstOrder(facts, options)
        self.bias = nn.Parameter(torch.zeros(1))
        self.latent_dim = options.embedding_dim

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        assert isinstance(options, EmbeddingOptions)
        return cls(facts, options)

    def embed(self, batch: Batch) -> Embedded:
        known = self.embeddings.known(batch)
        embedded: Embedded = self.embeddings(batch, known)
        return dataclasses.replace(embedded, linear=self.first_order(batch, known))

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        return pairwise_products(self.embeddings.fields(embedded))

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        return latent.sum(1) + self.bias + embedded.linear

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        return self.embeddings.items(ids)

    def embedding_tables(self) -> list[nn.Parameter]:
        return self.embeddings.tables()
