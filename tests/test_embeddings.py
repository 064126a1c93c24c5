"""The embedding layer: look-ups, attributes, id dropout, fields and first-order weights."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aqcl.config import build
from aqcl.contracts import Facts
from aqcl.embeddings import EmbeddingOptions, Embeddings, FirstOrder
from aqcl.schema import UNKNOWN, Field, Schema
from tests.model_inputs import IDS_ONLY, SCHEMAS, WITH_FIELDS, make_batch, make_facts

STANDARD_ERRORS = 5


def make_embeddings(facts: Facts, **changes: Any) -> Embeddings:
    options = {"embedding_dim": 4, "id_dropout": 0.0, "embedding_std": 1.0} | changes
    torch.manual_seed(0)
    return Embeddings(facts, build(EmbeddingOptions, options))


def test_ids_are_looked_up_in_their_tables() -> None:
    embeddings, batch = make_embeddings(make_facts()), make_batch()

    embedded = embeddings(batch)

    assert torch.equal(embedded.user[:, 0], embeddings.user_table[batch.user])
    assert torch.equal(embedded.item[:, 0], embeddings.item_table[batch.item])
    assert torch.equal(embedded.history[:, 0], embeddings.item_table[batch.history])
    assert embedded.context.shape == (len(batch), 0, 4)
    assert torch.equal(embedded.activity, batch.activity)
    assert embedded.keep is None
    assert embedded.linear.tolist() == [0.0] * len(batch)


def test_ids_beyond_the_table_are_unknown() -> None:
    embeddings, batch = make_embeddings(make_facts()), make_batch(unseen=True)

    embedded = embeddings(batch)

    assert torch.equal(embedded.user[:, 0], embeddings.user_table[UNKNOWN].expand(len(batch), 4))
    assert torch.equal(embedded.item[:, 0], embeddings.item_table[UNKNOWN].expand(len(batch), 4))
    assert (embedded.history[:, 0] == embeddings.item_table[UNKNOWN]).all()


def test_the_padding_row_starts_at_zero_and_the_others_do_not() -> None:
    embeddings = make_embeddings(make_facts())

    for table in (embeddings.user_table, embeddings.item_table):
        assert (table[0] == 0).all()
        assert (table[1:].abs().sum(1) > 0).all()


def column_vector(embeddings: Embeddings, field: Field, value: Any) -> Tensor:
    """The vector of one value, by the definition of each kind."""
    attributes = {
        "user": embeddings.user_attributes,
        "item": embeddings.item_attributes,
        "context": embeddings.context_attributes,
    }[field.side]
    weight: Tensor = attributes.weights[attributes.fields.index(field)]
    if field.kind == "numeric":
        return (float(value) - field.mean) / field.std * weight[0] + weight[1]
    present = [int(one) for one in np.ravel(value) if one > 0]
    return sum((weight[one] for one in present), torch.zeros(4)) / max(len(present), 1)


def test_attributes_stand_behind_the_id_in_the_order_of_the_schema() -> None:
    facts, batch = make_facts(WITH_FIELDS), make_batch(WITH_FIELDS)
    embeddings = make_embeddings(facts)

    embedded = embeddings(batch)

    for fields, vectors, ids in (
        (WITH_FIELDS.on("user"), embedded.user, batch.user),
        (WITH_FIELDS.on("item"), embedded.item, batch.item),
        (WITH_FIELDS.on("item"), embedded.history, batch.history),
    ):
        for place, field in enumerate(fields):
            for row, entity in enumerate(ids.tolist()):
                value = facts.attributes[field.name][entity]
                expected = column_vector(embeddings, field, value)
                torch.testing.assert_close(vectors[row, 1 + place], expected)
    for place, field in enumerate(WITH_FIELDS.on("context")):
        for row, value in enumerate(batch.context[field.name].tolist()):
            expected = column_vector(embeddings, field, value)
            torch.testing.assert_close(embedded.context[row, place], expected)


def test_unseen_entities_have_attributes_of_their_own() -> None:
    facts, batch = make_facts(WITH_FIELDS), make_batch(WITH_FIELDS, unseen=True)

    embedded = make_embeddings(facts)(batch)

    assert (embedded.item[:, 0] == embedded.item[0, 0]).all()
    assert not (embedded.item[:, 1:] == embedded.item[0, 1:]).all()


def test_an_entity_without_categories_is_zero_there() -> None:
    facts = make_facts(WITH_FIELDS)
    facts.attributes["kinds"][:] = 0

    embedded = make_embeddings(facts)(make_batch(WITH_FIELDS))

    assert (embedded.item[:, 2] == 0).all()
    assert (embedded.item[:, 1] != 0).any()


@pytest.mark.parametrize("name", ["type", "keys", "items", "a.b", "weights", "forward", "größe"])
@pytest.mark.parametrize("kind", ["categorical", "numeric"])
def test_columns_may_have_any_name(name: str, kind: Any) -> None:
    fields = (Field(name, kind, "item", size=4), Field("other", "categorical", "item", size=4))
    schema = dataclasses.replace(IDS_ONLY, fields=fields)
    embeddings = make_embeddings(make_facts(schema))

    assert embeddings(make_batch(schema)).item.shape == (7, 3, 4)
    assert len(embeddings.tables()) == 4


def test_id_dropout_trains_the_unknown_id_in_training_only() -> None:
    batch = make_batch(lengths=[40] * 50)
    embeddings = make_embeddings(make_facts(), id_dropout=0.25)

    embedded = embeddings(batch)

    unknown = (embedded.history[:, 0] == embeddings.item_table[UNKNOWN]).all(1).double()
    error = STANDARD_ERRORS * math.sqrt(0.25 * 0.75 / len(unknown))
    assert float(unknown.mean()) == pytest.approx(0.25, abs=error)
    for vectors, table in (
        (embedded.user, embeddings.user_table),
        (embedded.item, embeddings.item_table),
    ):
        dropped = (vectors[:, 0] == table[UNKNOWN]).all(1)
        assert dropped.any()
        assert not dropped.all()
    embeddings.eval()
    assert torch.equal(embeddings(batch).history[:, 0], embeddings.item_table[batch.history])


def test_the_penalised_tables_are_all_tables() -> None:
    embeddings = make_embeddings(make_facts(WITH_FIELDS))

    tables = embeddings.tables()

    assert len(tables) == 2 + len(WITH_FIELDS.fields)
    assert {id(table) for table in tables} == {id(p) for p in embeddings.parameters()}


@pytest.mark.parametrize("schema", [IDS_ONLY, WITH_FIELDS])
def test_everything_is_made_on_the_device_of_the_batch(schema: Schema) -> None:
    """The meta device stands for a GPU: mixing devices raises on both."""
    device = torch.device("meta")
    embeddings = make_embeddings(make_facts(schema), id_dropout=0.1).to(device)

    embedded = embeddings(make_batch(schema).to(device))

    tensors = [getattr(embedded, f.name) for f in dataclasses.fields(embedded)]
    assert {t.device for t in tensors if t is not None} == {device}


@pytest.mark.parametrize("user_id", [True, False])
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_fields_are_one_vector_each(schema: Schema, user_id: bool) -> None:
    embeddings, batch = make_embeddings(make_facts(schema), user_id=user_id), make_batch(schema)
    embedded = embeddings(batch)

    fields = embeddings.fields(embedded)

    n_user, n_item = len(schema.on("user")) + user_id, 1 + len(schema.on("item"))
    assert fields.shape == (len(batch), embeddings.n_fields, 4)
    user, item, history, context = fields.split(
        [n_user, n_item, n_item, len(schema.on("context"))], dim=1
    )
    assert torch.equal(user.flatten(1), embeddings.user_vector(embedded))
    assert user.flatten(1).shape[1] == embeddings.user_width
    assert torch.equal(item, embedded.item)
    assert item.flatten(1).shape[1] == embeddings.item_width
    assert torch.equal(context, embedded.context)
    assert context.flatten(1).shape[1] == embeddings.context_width
    for row, (start, stop) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        clicks = embedded.history[start:stop]
        mean = clicks.mean(0) if len(clicks) else torch.zeros(n_item, 4)
        torch.testing.assert_close(history[row], mean)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_first_order_weights_are_summed_over_all_fields(schema: Schema) -> None:
    facts, batch = make_facts(schema), make_batch(schema)
    linear = FirstOrder(facts, EmbeddingOptions(id_dropout=0.0))
    known = linear.weights.known(batch)
    assert linear(batch, known).tolist() == [0.0] * len(batch)
    for parameter in linear.parameters():
        torch.nn.init.normal_(parameter)

    total = linear(batch, known)

    embedded = linear.weights(batch)
    for row, (start, stop) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        clicks = embedded.history[start:stop]
        parts = [embedded.user[row], embedded.item[row], embedded.context[row]]
        expected = sum(part.sum() for part in parts) + (
            clicks.mean(0).sum() if len(clicks) else torch.zeros(())
        )
        torch.testing.assert_close(total[row], expected)
