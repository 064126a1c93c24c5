"""Small random facts and batches for the tests of models and losses."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from aqcl.batch import Batch, Embedded
from aqcl.config import build
from aqcl.contracts import Backbone, Facts
from aqcl.schema import FIRST_ID, PADDING, UNKNOWN, Field, Schema

MEAN_ACTIVITY = 3.0
MAX_HISTORY = 6
LENGTHS = (0, 3, 1, 0, 5, 2, 0)
"""Empty histories stand first, in the middle and last."""

SMALL_OPTIONS: dict[str, Any] = {
    "embedding_dim": 4,
    "embedding_std": 0.5,
    "sizes": [8, 7],
    "attention_sizes": [6, 5],
    "cross_buckets": 50,
    "dim": 8,
    "hidden_dim": 8,
    "n_codewords": 6,
    "top_k": 2,
    "warmup_steps": 2,
}
"""What makes any part small, and its scores differ: each takes the options that it has."""

IDS_ONLY = Schema(n_users=8, n_items=11, n_user_entities=10, n_item_entities=15)
WITH_FIELDS = Schema(
    n_users=8,
    n_items=11,
    n_user_entities=10,
    n_item_entities=15,
    fields=(
        Field("city", "categorical", "user", size=5),
        Field("income", "numeric", "user", mean=10.0, std=4.0),
        Field("brand", "categorical", "item", size=6),
        Field("kinds", "categories", "item", size=7),
        Field("price", "numeric", "item", mean=2.0, std=0.5),
        Field("hour", "categorical", "context", size=9),
        Field("position", "numeric", "context", mean=3.0, std=2.0),
    ),
)
SCHEMAS = {"ids only": IDS_ONLY, "with fields": WITH_FIELDS}
N_CATEGORIES = 3
"""Columns of the table of a field of kind `categories`."""


def make_facts(schema: Schema = IDS_ONLY) -> Facts:
    """Facts with random attribute tables, shaped as `prepare` writes them."""
    random = np.random.default_rng(1)
    attributes: dict[str, np.ndarray] = {}
    for field in schema.fields:
        n_rows = schema.n_user_entities if field.side == "user" else schema.n_item_entities
        column: np.ndarray
        if field.kind == "numeric":
            column = random.normal(field.mean, field.std, n_rows).astype(np.float32)
        elif field.kind == "categorical":
            column = random.integers(UNKNOWN, field.size, (n_rows, 1), dtype=np.int32)
        else:
            column = random.integers(UNKNOWN, field.size, (n_rows, N_CATEGORIES), dtype=np.int32)
            column[::2, 1:] = PADDING
        if field.side != "context":
            attributes[field.name] = column
    return Facts(schema, attributes, MEAN_ACTIVITY, max_history=MAX_HISTORY)


def make_batch(
    schema: Schema = IDS_ONLY, lengths: Sequence[int] = LENGTHS, seed: int = 0, unseen: bool = False
) -> Batch:
    """A random batch; its ids are known from training, or none is with `unseen`."""
    random = np.random.default_rng(seed)
    n_rows, n_clicks = len(lengths), sum(lengths)
    users, items = (FIRST_ID, schema.n_users), (FIRST_ID, schema.n_items)
    if unseen:
        users = (schema.n_users, schema.n_user_entities)
        items = (schema.n_items, schema.n_item_entities)
    context: dict[str, Any] = {}
    for field in schema.on("context"):
        if field.kind == "numeric":
            context[field.name] = random.normal(size=n_rows).astype(np.float32)
        else:
            context[field.name] = random.integers(UNKNOWN, field.size, n_rows)
    return Batch(
        user=torch.from_numpy(random.integers(*users, n_rows)),
        item=torch.from_numpy(random.integers(*items, n_rows)),
        label=torch.from_numpy(random.integers(0, 2, n_rows).astype(np.float32)),
        activity=torch.tensor(lengths, dtype=torch.float32),
        history=torch.from_numpy(random.integers(*items, n_clicks)),
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
        segment=torch.from_numpy(np.repeat(np.arange(n_rows), lengths)),
        context={name: torch.from_numpy(column) for name, column in context.items()},
    )


def take_rows(batch: Batch, rows: Sequence[int]) -> Batch:
    """The same samples in another order, or some of them."""
    index = torch.tensor(rows, dtype=torch.int64)
    clicks = [torch.arange(*batch.offsets[row : row + 2].tolist()) for row in rows]
    lengths = torch.tensor([len(own) for own in clicks], dtype=torch.int64)
    return Batch(
        user=batch.user[index],
        item=batch.item[index],
        label=batch.label[index],
        activity=batch.activity[index],
        history=batch.history[torch.cat(clicks)],
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        segment=torch.repeat_interleave(torch.arange(len(rows)), lengths),
        context={name: column[index] for name, column in batch.context.items()},
    )


def make_embedded(lengths: Sequence[int] = LENGTHS, dim: int = 4, seed: int = 0) -> Embedded:
    """Random vectors: two fields on the user and the item side, one in the context."""
    random = torch.Generator().manual_seed(seed)
    n_rows = len(lengths)
    batch = make_batch(lengths=lengths)
    return Embedded(
        user=torch.randn(n_rows, 2, dim, generator=random),
        item=torch.randn(n_rows, 2, dim, generator=random),
        context=torch.randn(n_rows, 1, dim, generator=random),
        history=torch.randn(sum(lengths), 2, dim, generator=random),
        segment=batch.segment,
        offsets=batch.offsets,
        keep=None,
        activity=batch.activity,
        linear=torch.randn(n_rows, generator=random),
    )


def small_options(cls: type[Any], **changes: Any) -> Any:
    """The options of a backbone or regularizer, small, with changes."""
    known = {field.name for field in dataclasses.fields(cls.Options)}
    small = {key: value for key, value in SMALL_OPTIONS.items() if key in known}
    return build(cls.Options, small | changes)


def make_backbone(
    cls: type[Backbone], facts: Facts, seed: int = 0, **options: Any
) -> tuple[nn.Module, Backbone]:
    """One small model, once for each of its two types."""
    torch.manual_seed(seed)
    made = cls.create(facts, small_options(cls, **options))
    assert isinstance(made, nn.Module)
    assert isinstance(made, Backbone)
    return made, made


def predict(backbone: Backbone, batch: Batch) -> torch.Tensor:
    """The logits of a batch."""
    embedded = backbone.embed(batch)
    return backbone.predict(backbone.encode(embedded), embedded)
