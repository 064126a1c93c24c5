"""Deep & Cross Network, version 2: explicit products of features of growing degree."""

from typing import Annotated, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Tensor, nn

from aqcl.batch import Batch, Embedded
from aqcl.config import settings
from aqcl.contracts import Facts
from aqcl.embeddings import Embeddings
from aqcl.tower import Tower, TowerOptions


@settings
class DCNv2Options(TowerOptions):
    """Options of the backbone `dcn-v2`."""

    n_cross_layers: Annotated[int, Bounds(ge=1)] = 3
    """Cross layers; with n of them products of up to n + 1 features are seen."""
    structure: Literal["parallel", "stacked"] = "parallel"
    """Whether the deep network stands beside the cross layers or on top of them."""


class DCNv2(nn.Module):
    """Cross layers x' = x0 * (W x + b) + x over all fields, and a deep network.

    The latent is both outputs side by side if `parallel`, the last hidden layer of the deep network
    if `stacked`.

    Reference: arXiv 2008.13535, section 3, equation 1 and figure 1.
    """

    Options: ClassVar[type] = DCNv2Options

    def __init__(self, facts: Facts, options: DCNv2Options) -> None:
        super().__init__()
        self.options = options
        self.embeddings = Embeddings(facts, options)
        width = self.embeddings.n_fields * options.embedding_dim
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(options.n_cross_layers))
        self.top = Tower(width, options)
        parallel = options.structure == "parallel"
        self.latent_dim = options.sizes[-1] + (width if parallel else 0)
        self.head = nn.Linear(self.latent_dim, 1)

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        assert isinstance(options, DCNv2Options)
        return cls(facts, options)

    def embed(self, batch: Batch) -> Embedded:
        embedded: Embedded = self.embeddings(batch)
        return embedded

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        inputs = self.embeddings.fields(embedded).flatten(1)
        crossed = inputs
        for layer in self.crosses:
            crossed = inputs * layer(crossed) + crossed
        if self.options.structure == "stacked":
            stacked: Tensor = self.top(crossed, embedded.activity)
            return stacked
        return torch.cat([crossed, self.top(inputs, embedded.activity)], dim=1)

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        logit: Tensor = self.head(latent).squeeze(1) + embedded.linear
        return logit

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        return self.embeddings.items(ids)

    def embedding_tables(self) -> list[nn.Parameter]:
        return self.embeddings.tables()
