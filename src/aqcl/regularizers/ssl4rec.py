"""SSL4Rec: two views of an item, each with other fields hidden, must be found as one item."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step, field_width
from aqcl.contrastive import info_nce
from aqcl.layers import Sizes, dropout_mask, tanh_mlp
from aqcl.schema import FIRST_ID

N_BINS = 10
"""A numeric column counts as so many values of equal frequency in the mutual information."""

Codes = npt.NDArray[np.int64]


@settings
class SSL4RecOptions:
    """Options of the regularizer `ssl4rec`."""

    weight: Annotated[float, Bounds(ge=0)] = 0.1
    """alpha of equation 5; the code of SELFRec has 0.1."""
    temperature: Annotated[float, Bounds(gt=0)] = 0.07
    """Temperature of the similarities; the code of SELFRec has 0.07."""
    dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.1
    """Probability that a view loses a coordinate of a field; all that is left where items have no
    attributes, because nothing can be hidden of the id alone."""
    n_samples: Annotated[int, Bounds(ge=2)] = 512
    """Items drawn for each step; the same item drawn twice counts once."""
    sizes: Sizes = (64, 32)
    """Sizes of the tower that encodes both views; the code of SELFRec has 1024 and 128."""


class SSL4Rec(nn.Module):
    """Contrast of two views of items: correlated fields are hidden together, then dropout.

    Items are drawn uniformly, so that rare ones count as much as popular ones.

    Reference: arXiv 2007.12865, sections 3.1 to 3.3; the tower as in Coder-Yu/SELFRec.
    """

    Options: ClassVar[type] = SSL4RecOptions

    def __init__(
        self,
        dim: int,
        patterns: Bool[Tensor, "F 2 F"],
        n_items: int,
        options: SSL4RecOptions | None = None,
    ) -> None:
        super().__init__()
        self.options = options or SSL4RecOptions()
        self.weight = self.options.weight
        self.n_items = n_items
        # NOTE[DIFF]: the tower serves this loss alone, and the model shares with it the embeddings
        # of items; in the paper and in the code of SELFRec the main task has the same item tower.
        n_fields = len(patterns)
        self.tower = tanh_mlp(n_fields * dim, self.options.sizes)
        self.default = nn.Parameter(torch.zeros(n_fields, dim))
        self.patterns: Tensor
        self.register_buffer("patterns", patterns, persistent=False)

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, SSL4RecOptions)
        patterns = hiding_patterns(information_matrix(item_columns(facts)))
        return cls(field_width(backbone), patterns, facts.schema.n_items, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        device, generator = step.batch.user.device, step.generator
        ids = torch.randint(
            FIRST_ID, self.n_items, (self.options.n_samples,), generator=generator, device=device
        ).unique()
        items = step.backbone.embed_items(ids)
        # The paper changes the seed field with the batch.
        seed = torch.randint(len(self.patterns), (1,), generator=generator, device=device)
        first, second = self.patterns[seed].squeeze(0)
        value = info_nce(
            self.encode(items, first, generator),
            self.encode(items, second, generator),
            temperature=self.options.temperature,
        ).mean()
        return LossTerm.of(value)

    def encode(
        self, items: Float[Tensor, "N F d"], hidden: Bool[Tensor, " F"], generator: Generator
    ) -> Float[Tensor, "N D"]:
        """Encodings of views of items: the default vector for hidden fields, then dropout."""
        shown = torch.where(hidden[:, None], self.default, items)
        # NOTE[DIFF]: dropout zeroes coordinates of all fields, as the code of SELFRec does, not
        # single values of fields that hold several.
        if self.options.dropout > 0:
            shown = shown * dropout_mask(shown, self.options.dropout, generator)
        encoding: Tensor = self.tower(shown.flatten(1))
        return encoding


def item_columns(facts: Facts) -> list[Codes]:
    """The id and each item field as integers, equal where the value is; known items only."""
    known = slice(FIRST_ID, facts.schema.n_items)
    columns = [np.arange(FIRST_ID, facts.schema.n_items, dtype=np.int64)]
    for field in facts.schema.on("item"):
        values = facts.attributes[field.name][known]
        # NOTE[DIFF]: the paper defines mutual information for fields of one category; a list of
        # values counts as one value here, and a numeric column by its deciles.
        if field.kind == "numeric":
            edges = np.quantile(values, np.linspace(0.0, 1.0, N_BINS + 1)[1:-1])
            columns.append(np.digitize(values, edges).astype(np.int64))
        else:
            _, codes = np.unique(np.sort(values, axis=1), axis=0, return_inverse=True)
            columns.append(codes.reshape(-1).astype(np.int64))
    return columns


def information_matrix(columns: Sequence[Codes]) -> npt.NDArray[np.float64]:
    """Mutual information of all pairs of columns, in nats."""
    return np.array([[mutual_information(a, b) for b in columns] for a in columns])


def mutual_information(first: Codes, second: Codes) -> float:
    """Sum over pairs of values of P(a, b) log(P(a, b) / (P(a) P(b))).

    Reference: arXiv 2007.12865, equation 4.
    """
    _, a, counts_a = np.unique(first, return_inverse=True, return_counts=True)
    _, b, counts_b = np.unique(second, return_inverse=True, return_counts=True)
    pairs, counts = np.unique(a * len(counts_b) + b, return_counts=True)
    apart = counts_a[pairs // len(counts_b)] * counts_b[pairs % len(counts_b)]
    total = len(first)
    return float(np.sum(counts / total * np.log(counts * total / apart)))


def hiding_patterns(information: npt.NDArray[np.float64]) -> Bool[Tensor, "F 2 F"]:
    """For each seed field, the fields that the first view hides and those that the second does.

    The first view hides the seed and the n fields that tell most of it; the second hides the rest.

    Reference: arXiv 2007.12865, section 3.2, correlated feature masking with n = floor(k / 2).
    """
    n_fields = len(information)
    patterns = torch.zeros(n_fields, 2, n_fields, dtype=torch.bool)
    if n_fields == 1:
        return patterns
    # NOTE[DIFF]: of two fields only the seed is hidden; n = floor(k / 2) would hide both.
    n_related = min(n_fields // 2, n_fields - 2)
    for seed in range(n_fields):
        ranked = np.argsort(-information[seed], kind="stable")
        related = [int(field) for field in ranked if field != seed][:n_related]
        patterns[seed, 0, [seed, *related]] = True
    patterns[:, 1] = ~patterns[:, 0]
    return patterns
