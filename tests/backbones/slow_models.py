"""The parts that simple backbones share, in loops over samples and columns, in float64."""

from typing import Any

import numpy as np
import torch
from torch import nn

from aqcl.batch import Batch
from aqcl.contracts import Backbone, Facts
from aqcl.embeddings import Attributes, Embeddings
from aqcl.tower import Tower
from tests.model_inputs import make_backbone

NO_RANDOMNESS: dict[str, Any] = {"dropout": 0.0, "id_dropout": 0.0}


def make_model(cls: type[Backbone], facts: Facts, **options: Any) -> tuple[nn.Module, Backbone]:
    """A small model in float64, none of whose weights is zero."""
    rates = NO_RANDOMNESS if hasattr(cls.Options(), "dropout") else {"id_dropout": 0.0}
    module, backbone = make_backbone(cls, facts, **rates, **options)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module, backbone


def attribute_vectors(attributes: Attributes, values: list[Any]) -> list[np.ndarray]:
    """The vectors of one entity or context."""
    vectors = []
    for field, weight, value in zip(attributes.fields, attributes.weights, values, strict=True):
        rows = weight.detach().numpy()
        if field.kind == "numeric":
            vectors.append((float(value) - field.mean) / field.std * rows[0] + rows[1])
        else:
            own = [rows[v] for v in np.ravel(value) if v != 0]
            vectors.append(np.mean(own, axis=0) if own else np.zeros(attributes.dim))
    return vectors


def entity_vectors(
    embeddings: Embeddings, facts: Facts, side: str, entity: int
) -> list[np.ndarray]:
    """The vectors of a user or item: id, then attributes."""
    table, attributes = embeddings.user_table, embeddings.user_attributes
    if side == "item":
        table, attributes = embeddings.item_table, embeddings.item_attributes
    values = [facts.attributes[field.name][entity] for field in attributes.fields]
    own = table.detach().numpy()[entity if entity < len(table) else 1]
    return [own, *attribute_vectors(attributes, values)]


def clicks_of(batch: Batch, row: int) -> list[int]:
    """The items of a row's history."""
    start, stop = batch.offsets[row : row + 2].tolist()
    return [int(item) for item in batch.history[start:stop]]


def field_vectors(embeddings: Embeddings, facts: Facts, batch: Batch, row: int) -> list[np.ndarray]:
    """A vector for each field of a sample: user, candidate, mean of the clicks, context."""
    user = entity_vectors(embeddings, facts, "user", int(batch.user[row]))
    item = entity_vectors(embeddings, facts, "item", int(batch.item[row]))
    clicks = [entity_vectors(embeddings, facts, "item", click) for click in clicks_of(batch, row)]
    history = [np.mean(own, axis=0) for own in zip(*clicks, strict=True)]
    context = embeddings.context_attributes
    values = [batch.context[field.name][row].item() for field in context.fields]
    empty = [np.zeros_like(vector) for vector in item]
    return user + item + (history or empty) + attribute_vectors(context, values)


def first_order(module: nn.Module, facts: Facts, batch: Batch, row: int) -> float:
    """Sum of the weights of all fields."""
    weights = module.get_submodule("first_order.weights")
    assert isinstance(weights, Embeddings)
    return float(np.sum(field_vectors(weights, facts, batch, row)))


def pair_products(fields: list[np.ndarray]) -> np.ndarray:
    """Elementwise products of all pairs, summed."""
    total = np.zeros_like(fields[0])
    for i in range(len(fields)):
        for j in range(i + 1, len(fields)):
            total = total + fields[i] * fields[j]
    return total


def deep(module: nn.Module, fields: list[np.ndarray]) -> float:
    """The top network with ReLU, and the head."""
    x, top, head = np.concatenate(fields), module.get_submodule("top"), module.get_submodule("head")
    assert isinstance(top, Tower)
    assert isinstance(head, nn.Linear)
    for layer in (m for m in top.layers if isinstance(m, nn.Linear)):
        x = np.maximum(layer.weight.detach().numpy() @ x + layer.bias.detach().numpy(), 0.0)
    return float(head.weight.detach().numpy()[0] @ x + head.bias.item())


def embeddings_of(module: nn.Module) -> Embeddings:
    embeddings = module.get_submodule("embeddings")
    assert isinstance(embeddings, Embeddings)
    return embeddings


def assert_logits(logits: torch.Tensor, expected: list[float]) -> None:
    """Equal up to rounding in float64."""
    assert logits.dtype == torch.float64
    np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=0, atol=1e-9)
