"""The mean of the clicks and an MLP: the plain control of all that weighs or orders clicks."""

from typing import ClassVar, Self

from jaxtyping import Float, Int
from torch import Tensor, nn

from aqcl.batch import Batch, Embedded
from aqcl.contracts import Facts
from aqcl.embeddings import Embeddings
from aqcl.tower import Tower, TowerOptions


class MeanPool(nn.Module):
    """User, candidate, mean of the clicks and context through an MLP: the plain control.

    It pools the clicks as the deep networks of YouTube do and predicts a click, where those predict
    the next video or the time watched.

    Reference: Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    sections 3.2 and 4.
    """

    Options: ClassVar[type] = TowerOptions

    def __init__(self, facts: Facts, options: TowerOptions) -> None:
        super().__init__()
        self.embeddings = Embeddings(facts, options)
        self.top = Tower(self.embeddings.n_fields * options.embedding_dim, options)
        self.head = nn.Linear(options.sizes[-1], 1)
        self.latent_dim = options.sizes[-1]

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        assert isinstance(options, TowerOptions)
        return cls(facts, options)

    def embed(self, batch: Batch) -> Embedded:
        embedded: Embedded = self.embeddings(batch)
        return embedded

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        inputs = self.embeddings.fields(embedded).flatten(1)
        latent: Tensor = self.top(inputs, embedded.activity)
        return latent

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        logit: Tensor = self.head(latent).squeeze(1) + embedded.linear
        return logit

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        return self.embeddings.items(ids)

    def embedding_tables(self) -> list[nn.Parameter]:
        return self.embeddings.tables()
