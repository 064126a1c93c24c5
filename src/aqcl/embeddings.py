"""The embedding layer of every backbone: ids and attributes to vectors, or to single weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Tensor, nn
from torch.nn import functional as F

from aqcl.batch import Batch, Embedded
from aqcl.config import settings
from aqcl.contracts import Facts
from aqcl.jagged import segment_mean
from aqcl.layers import look_up
from aqcl.schema import UNKNOWN, Field


@settings
class EmbeddingOptions:
    """Options of the embedding layer."""

    embedding_dim: Annotated[int, Bounds(ge=1)] = 16
    """Width of every embedding vector."""
    embedding_std: Annotated[float, Bounds(ge=0)] = 0.01
    """Standard deviation of the initial embedding vectors."""
    id_dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.01
    """Share of ids replaced by the unknown id in training, so that its vector is trained."""
    user_id: bool = True
    """Whether the user's id is an input."""


class Attributes(nn.Module):
    """Embeds the attribute columns of one side.

    Columns of users and items are tables (one row per entity) kept here as buffers, so that
    weights are complete without the dataset; context columns come with the batch.
    """

    def __init__(self, fields: Sequence[Field], dim: int, tables: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.dim = dim
        self.sparse = False
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
        vectors = (
            F.embedding(values, weight, sparse=True) if self.sparse else look_up(weight, values)
        )
        total = (vectors * present[..., None]).sum(1)
        return total / present.sum(1, keepdim=True).clamp(min=1.0)


@dataclass(frozen=True)
class KnownIds:
    """The ids of a batch as they are looked up: `UNKNOWN` for those that are unseen or hidden."""

    items: Int[Tensor, " N"]
    """Of the B candidates, then of the S clicks."""
    user: Int[Tensor, " B"]


class Embeddings(nn.Module):
    """The embedding layer shared by all backbones: a `Batch` in, an `Embedded` out.

    The candidate and the clicks share the item tables. In training a random `id_dropout` of
    user, item and click ids are looked up as the unknown id, so that its row is trained. An
    unseen id is looked up as unknown too and keeps its attributes.

    Args:
        facts: of the training data.
        options: all other settings.
        outputs: whether there is a second table of items, for `Embedded.item_output`.
    """

    def __init__(self, facts: Facts, options: EmbeddingOptions, *, outputs: bool = False) -> None:
        super().__init__()
        schema, attributes, dim = facts.schema, facts.attributes, options.embedding_dim
        self.schema = schema
        self.options = options
        self.sparse = False
        self.user_table = nn.Parameter(torch.empty(schema.n_users, dim))
        self.item_table = nn.Parameter(torch.empty(schema.n_items, dim))
        self.user_attributes = Attributes(schema.on("user"), dim, attributes)
        self.item_attributes = Attributes(schema.on("item"), dim, attributes)
        self.context_attributes = Attributes(schema.on("context"), dim, attributes)
        self.output_table: nn.Parameter | None = None
        if outputs:
            self.output_table = nn.Parameter(torch.empty(schema.n_items, dim))
        for table in self.parameters():
            nn.init.normal_(table, std=options.embedding_std)
        with torch.no_grad():
            for table in self.id_tables():
                table[0] = 0.0

    def known(self, batch: Batch) -> KnownIds:
        """The ids of a batch as they are looked up; in training other ones are hidden each time."""
        items = torch.cat([batch.item, batch.history])
        return KnownIds(
            items=self._known(items, self.item_table), user=self._known(batch.user, self.user_table)
        )

    def forward(self, batch: Batch, known: KnownIds | None = None) -> Embedded:
        """Look all ids of a batch up.

        Args:
            batch: the samples.
            known: their ids, where another part of the model looks up the same ones.
        """
        known = self.known(batch) if known is None else known
        # One look-up serves the candidates and the clicks, so there is one dense gradient.
        n_rows, ids = len(batch), torch.cat([batch.item, batch.history])
        items = self._items(ids, known.items)
        if self.options.user_id:
            user_id = self._rows(self.user_table, known.user)
        else:  # regularizers do not see it either
            user_id = items.new_zeros(n_rows, items.shape[2])
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
            item_output=self._outputs(known.items[:n_rows]),
        )

    def items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        """Vectors of items: the id first, then the attributes."""
        return self._items(ids, self._known(ids, self.item_table))

    def _items(self, ids: Tensor, known: Tensor) -> Float[Tensor, "N Fi d"]:
        id_vector = self._rows(self.item_table, known)[:, None]
        if not self.item_attributes.fields:
            return id_vector
        return torch.cat([id_vector, self.item_attributes(ids)], dim=1)

    def _outputs(self, known: Tensor) -> Float[Tensor, "N d"] | None:
        if self.output_table is None:
            return None
        # NOTE[DIFF]: the output vector v' of an unknown candidate, in the backbone `dmr`, is zero.
        # Besides those that id dropout hides, the unknown ones in training are drawn negatives
        # alone, where these are drawn from all items: a vector of theirs would learn that.
        return self._rows(self.output_table, known) * (known > UNKNOWN)[:, None]

    def user_vector(self, embedded: Embedded) -> Float[Tensor, "B width"]:
        """The fields of the user side by side, without the id where `user_id` is off."""
        return self._user_fields(embedded).flatten(1)

    def fields(self, embedded: Embedded) -> Float[Tensor, "B F d"]:
        """Every field as one vector: user, candidate, mean of the clicks, context.

        For models of interactions between fields; `n_fields` is F.
        """
        return field_vectors(embedded, self._user_fields(embedded))

    @property
    def user_width(self) -> int:
        """Width of `user_vector`."""
        n_vectors = int(self.options.user_id) + len(self.user_attributes.fields)
        return n_vectors * self.options.embedding_dim

    @property
    def item_width(self) -> int:
        """Width of a candidate or click, its fields side by side."""
        return (1 + len(self.item_attributes.fields)) * self.options.embedding_dim

    @property
    def context_width(self) -> int:
        """Width of the context, its fields side by side."""
        return len(self.context_attributes.fields) * self.options.embedding_dim

    @property
    def n_fields(self) -> int:
        """F of `fields`."""
        width = self.user_width + 2 * self.item_width + self.context_width
        return width // self.options.embedding_dim

    def _user_fields(self, embedded: Embedded) -> Float[Tensor, "B Fu d"]:
        return embedded.user if self.options.user_id else embedded.user[:, 1:]

    def tables(self) -> list[nn.Parameter]:
        """What the embedding penalty acts on: id and attribute tables."""
        return list(self.parameters())

    def id_tables(self) -> list[nn.Parameter]:
        """The tables of users and items alone."""
        tables = (self.user_table, self.item_table, self.output_table)
        return [table for table in tables if table is not None]

    def _known(self, ids: Tensor, table: nn.Parameter) -> Int[Tensor, " N"]:
        """The rows of a table that ids are looked up in."""
        known = torch.where(ids < table.shape[0], ids, UNKNOWN)
        # NOTE[DIFF]: the paper does not say what an id unknown from training is looked up as; here
        # there is an unknown id, and in training a random `id_dropout` of user, item and click ids,
        # 0.01 for all methods alike, are looked up as it, so that its vector is trained.
        rate = self.options.id_dropout
        if self.training and rate > 0:
            dropped = torch.rand(ids.shape, device=ids.device) < rate
            known = torch.where(dropped, UNKNOWN, known)
        return known

    def _rows(self, table: nn.Parameter, known: Tensor) -> Float[Tensor, "N d"]:
        if self.sparse:
            return F.embedding(known, table, sparse=True)
        return table.index_select(0, known)


def use_sparse_gradients(model: nn.Module) -> list[nn.Parameter]:
    """From now on the tables of a model's embedding layers have gradients of the rows looked up.

    Returns:
        These tables. The two rows of a numeric column are not among them: every sample has both.
    """
    tables: list[nn.Parameter] = []
    for module in model.modules():
        if isinstance(module, Embeddings):
            module.sparse = True
            tables += module.id_tables()
        if isinstance(module, Attributes):
            module.sparse = True
            columns = zip(module.fields, module.weights, strict=True)
            tables += [weight for field, weight in columns if field.kind != "numeric"]
    return tables


class FirstOrder(nn.Module):
    """A weight for each id and attribute value: the linear part of a model, a `Batch` to (B,).

    The clicks count as the mean of their weights. All start at zero and no embedding penalty acts
    on them.
    """

    def __init__(self, facts: Facts, options: EmbeddingOptions) -> None:
        super().__init__()
        single = dataclasses.replace(options, embedding_dim=1, embedding_std=0.0)
        self.weights = Embeddings(facts, single)

    def forward(self, batch: Batch, known: KnownIds) -> Float[Tensor, " B"]:
        return self.weights.fields(self.weights(batch, known)).sum((1, 2))


def pairwise_products(fields: Float[Tensor, "B F d"]) -> Float[Tensor, "B d"]:
    """Sum over all pairs of fields of the product of their vectors, coordinate by coordinate.

    Reference: Rendle, Factorization Machines, ICDM 2010, lemma 3.1.
    """
    return (fields.sum(1).square() - fields.square().sum(1)) / 2


def field_vectors(embedded: Embedded, user: Float[Tensor, "B Fu d"]) -> Float[Tensor, "B F d"]:
    """Fields of a sample as one vector each: these of the user, candidate, mean click, context."""
    embedded = embedded.without_masked()
    clicks = segment_mean(embedded.history_vectors, embedded.segment, embedded.item.shape[0])
    history = clicks.view_as(embedded.item)
    return torch.cat([user, embedded.item, history, embedded.context], dim=1)
