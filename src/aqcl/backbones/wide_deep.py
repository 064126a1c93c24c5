"""Wide & Deep: a linear model of single and crossed features beside a deep network."""

import dataclasses
import itertools
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field as Bounds
from torch import Tensor, nn

from aqcl.batch import Batch, Embedded
from aqcl.config import settings
from aqcl.contracts import Facts
from aqcl.embeddings import Embeddings, FirstOrder, KnownIds
from aqcl.jagged import segment_sum
from aqcl.layers import look_up
from aqcl.schema import FIRST_ID, PADDING, UNKNOWN, Field, Schema, Side
from aqcl.tower import Tower, TowerOptions

HASH_PRIME = 2**31 - 1
HASH_FACTORS = (1_597_334_677, 812_015_963, 1_140_671_485)
"""Of the left id, the right id and the number of the cross; below the prime."""


def bucket(
    left: Int[Tensor, "*pairs"], right: Int[Tensor, "*pairs"], number: int, n_buckets: int
) -> Int[Tensor, "*pairs"]:
    """A bucket for each pair of ids, one of a universal family (Carter and Wegman, 1979).

    No step exceeds 63 bits, so every device and an exported graph agree. Ids are below 2**31.
    """
    of_left, of_right, of_number = HASH_FACTORS
    mixed = (left * of_left + right * of_right) % HASH_PRIME + number * of_number % HASH_PRIME
    return mixed % HASH_PRIME % n_buckets


def occurs(
    values: Int[Tensor, "B C"], clicked: Int[Tensor, "S K"], segment: Int[Tensor, " S"]
) -> Bool[Tensor, "B C"]:
    """Which values of each candidate one of the row's clicks has too.

    Padding never occurs, nor does the unknown value: two unknown brands need not be one.
    """
    own = values.index_select(0, segment)
    same = (own[:, :, None] == clicked[:, None, :]).any(2)
    found = segment_sum(same.to(torch.float32), segment, values.shape[0]) > 0
    return found & (values >= FIRST_ID)


def discrete(schema: Schema, side: Side) -> list[Field]:
    """The attributes of one side that have values to cross."""
    return [field for field in schema.on(side) if field.kind != "numeric"]


class Crosses(nn.Module):
    """Weights of cross features, which are products of binary features; all start at zero.

    They are: candidate and latest click; for each item attribute, the candidate's value and its
    presence among the clicks; each user attribute with each item attribute of the candidate. A
    list of values gives a feature each.

    Reference: arXiv 1606.07792, section 3.1, equation 1.
    """

    def __init__(self, facts: Facts, n_buckets: int) -> None:
        super().__init__()
        self.hashed = nn.Parameter(torch.zeros(n_buckets))
        self.present = nn.ParameterList()
        for field in discrete(facts.schema, "item"):
            self.present.append(nn.Parameter(torch.zeros(field.size)))
        self.columns: dict[Side, list[str]] = {"user": [], "item": []}
        for side, names in self.columns.items():
            for number, field in enumerate(discrete(facts.schema, side)):
                table = torch.tensor(facts.attributes[field.name])
                names.append(f"{side}_{number}")
                self.register_buffer(names[-1], table.reshape(len(table), -1))

    def forward(self, batch: Batch, known: KnownIds) -> Float[Tensor, " B"]:
        user, candidate = self._values("user", batch.user), self._values("item", batch.item)
        clicked = self._values("item", batch.history)
        ids = torch.cat([known.items, known.items.new_full((1,), PADDING)])
        no_click = torch.full_like(batch.user, len(known.items))
        last = torch.where(batch.offsets.diff() > 0, len(batch) + batch.offsets[1:] - 1, no_click)
        terms = [self._pairs(_or_padding(ids[: len(batch)]), _or_padding(ids[last]), 0)]
        for weight, values, clicks in zip(self.present, candidate, clicked, strict=True):
            found = look_up(weight, values)
            terms.append((found * occurs(values, clicks, batch.segment)).sum(1))
        for number, (left, right) in enumerate(itertools.product(user, candidate), start=1):
            terms.append(self._pairs(left, right, number))
        return torch.stack(terms).sum(0)

    def _values(self, side: Side, ids: Tensor) -> list[Int[Tensor, "N C"]]:
        return [self.get_buffer(name)[ids].long() for name in self.columns[side]]

    def _pairs(
        self, left: Int[Tensor, "B L"], right: Int[Tensor, "B R"], number: int
    ) -> Float[Tensor, " B"]:
        left, right = torch.broadcast_tensors(left[:, :, None], right[:, None, :])
        exists = (left != PADDING) & (right != PADDING)
        buckets = bucket(left, right, number, self.hashed.shape[0])
        return (look_up(self.hashed, buckets) * exists).sum((1, 2))


def _or_padding(items: Int[Tensor, " B"]) -> Int[Tensor, "B 1"]:
    """Known items, and padding for all others, which no pair is made of.

    Besides those that id dropout hides, unknown candidates in training are drawn negatives alone,
    where these are drawn from all items: a weight of theirs would learn that.
    """
    return torch.where(items == UNKNOWN, PADDING, items)[:, None]


@settings
class WideDeepOptions(TowerOptions):
    """Options of the backbone `wide-deep`."""

    cross_buckets: Annotated[int, Bounds(ge=1, lt=HASH_PRIME)] = 100_000
    """Weights that the pairs of ids and of attribute values are hashed to."""


class WideDeep(nn.Module):
    """Wide & Deep.

    Deep input: user, candidate, mean of the clicks, context. Wide: a weight for each of their
    values, and the cross features; no view changes it and no embedding penalty acts on it.

    Reference: arXiv 1606.07792, section 3, equations 1 to 3.
    """

    # NOTE[DIFF]: Wide & Deep trains its wide part by FTRL with L1 and its deep part by AdaGrad;
    # here one optimizer trains both, without L1.

    Options: ClassVar[type] = WideDeepOptions

    def __init__(self, facts: Facts, options: WideDeepOptions) -> None:
        super().__init__()
        self.embeddings = Embeddings(facts, options)
        self.first_order = FirstOrder(facts, options)
        self.crosses = Crosses(facts, options.cross_buckets)
        self.top = Tower(self.embeddings.n_fields * options.embedding_dim, options)
        self.head = nn.Linear(options.sizes[-1], 1)
        self.latent_dim = options.sizes[-1]

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        assert isinstance(options, WideDeepOptions)
        return cls(facts, options)

    def embed(self, batch: Batch) -> Embedded:
        known = self.embeddings.known(batch)
        embedded: Embedded = self.embeddings(batch, known)
        wide = self.first_order(batch, known) + self.crosses(batch, known)
        return dataclasses.replace(embedded, linear=wide)

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
