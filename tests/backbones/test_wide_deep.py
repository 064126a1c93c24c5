"""Wide & Deep is a deep network, first-order weights and cross features in loops."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from aqcl.backbones.wide_deep import HASH_PRIME, WideDeep, bucket, occurs
from aqcl.batch import Batch
from aqcl.contracts import Facts
from aqcl.embeddings import FirstOrder
from aqcl.schema import Field, Schema
from tests.backbones.slow_models import (
    assert_logits,
    clicks_of,
    deep,
    embeddings_of,
    field_vectors,
    first_order,
    make_model,
)
from tests.model_inputs import SCHEMAS, WITH_FIELDS, make_backbone, make_batch, make_facts, predict

MANY_VALUES = dataclasses.replace(
    WITH_FIELDS, fields=(*WITH_FIELDS.fields, Field("tags", "categories", "user", size=4))
)
"""Both sides have lists of values, of any length, to cross."""


def slow_bucket(left: int, right: int, number: int, n_buckets: int) -> int:
    mixed = left * 1_597_334_677 + right * 812_015_963 + number * 1_140_671_485
    return mixed % (2**31 - 1) % n_buckets


def values(facts: Facts, name: str, entity: int) -> list[int]:
    """The values of an attribute that are not padding."""
    return [int(value) for value in np.ravel(facts.attributes[name][entity]) if value != 0]


def crosses(module: nn.Module, facts: Facts, batch: Batch, row: int) -> float:
    """The cross features, one after the other."""
    hashed = module.get_parameter("crosses.hashed").detach().numpy()
    user, item, clicks = int(batch.user[row]), int(batch.item[row]), clicks_of(batch, row)
    n_items, total = facts.schema.n_items, 0.0
    if clicks and max(item, clicks[-1]) < n_items:
        total += hashed[slow_bucket(item, clicks[-1], 0, len(hashed))]
    columns: dict[str, list[str]] = {"user": [], "item": []}
    for field in facts.schema.fields:
        if field.kind != "numeric" and field.side != "context":
            columns[field.side].append(field.name)
    for number, name in enumerate(columns["item"]):
        weights = module.get_parameter(f"crosses.present.{number}").detach().numpy()
        clicked = {value for click in clicks for value in values(facts, name, click)}
        total += sum(weights[v] for v in values(facts, name, item) if v in clicked and v != 1)
    number = 0
    for of_user in columns["user"]:
        for of_item in columns["item"]:
            number += 1
            for left in values(facts, of_user, user):
                for right in values(facts, of_item, item):
                    total += hashed[slow_bucket(left, right, number, len(hashed))]
    return float(total)


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("n_buckets", [10, 100_000])
@pytest.mark.parametrize("schema", [*SCHEMAS.values(), MANY_VALUES], ids=[*SCHEMAS, "lists"])
def test_it_is_its_formula(schema: Schema, n_buckets: int, unseen: bool) -> None:
    facts = make_facts(schema)
    module, backbone = make_model(WideDeep, facts, cross_buckets=n_buckets)
    batch = make_batch(facts.schema, unseen=unseen)

    wide, expected = [], []
    for row in range(len(batch)):
        fields = field_vectors(embeddings_of(module), facts, batch, row)
        wide.append(first_order(module, facts, batch, row) + crosses(module, facts, batch, row))
        expected.append(deep(module, fields) + wide[-1])

    assert_logits(backbone.embed(batch).linear, wide)
    assert_logits(predict(backbone, batch), expected)


def test_the_wide_part_starts_at_zero_and_is_not_penalised() -> None:
    module, backbone = make_backbone(WideDeep, make_facts(WITH_FIELDS))
    wide = [
        p for name in ("first_order", "crosses") for p in module.get_submodule(name).parameters()
    ]

    assert not any(parameter.any() for parameter in wide)
    penalised = {id(table) for table in backbone.embedding_tables()}
    assert penalised.isdisjoint({id(parameter) for parameter in wide})


def test_a_wide_weight_is_learned_for_a_candidate_after_a_click() -> None:
    """The order of the two matters, and no older click does."""
    module, backbone = make_model(WideDeep, make_facts())
    hashed = module.get_parameter("crosses.hashed")
    one = make_batch(lengths=(2,))
    batch = dataclasses.replace(one, item=torch.tensor([4]), history=torch.tensor([9, 7]))

    (gradient,) = torch.autograd.grad(backbone.embed(batch).linear.sum(), hashed)

    assert gradient.nonzero().tolist() == [[slow_bucket(4, 7, 0, len(hashed))]]
    assert slow_bucket(4, 7, 0, len(hashed)) != slow_bucket(7, 4, 0, len(hashed))


def test_an_id_that_dropout_hides_is_hidden_from_wide_and_deep_alike() -> None:
    module, backbone = make_backbone(WideDeep, make_facts(), id_dropout=0.5)
    first, hashed = module.get_submodule("first_order"), module.get_parameter("crosses.hashed")
    assert isinstance(first, FirstOrder)
    batch, patterns = make_batch(lengths=(1,)), set[tuple[bool, ...]]()
    module.train()

    for _ in range(60):
        embedded = backbone.embed(batch)
        tables = [*embeddings_of(module).id_tables(), *first.weights.id_tables(), hashed]
        total = embedded.user.sum() + embedded.item.sum() + embedded.history.sum()
        of_deep_user, of_deep_item, of_user, of_item, of_pair = torch.autograd.grad(
            total + embedded.linear.sum(), tables
        )

        for deep_rows, wide_rows in ((of_deep_user, of_user), (of_deep_item, of_item)):
            assert torch.equal(deep_rows.any(1), wide_rows.any(1))
        candidate, click = (bool(of_item[ids].any()) for ids in (batch.item, batch.history))
        assert bool(of_pair.any()) == (candidate and click)
        patterns.add((bool(of_user[batch.user].any()), candidate, click))

    assert len(patterns) == 8


def test_values_occur_among_the_clicks_of_their_own_row() -> None:
    candidates = torch.tensor([[2, 3], [2, 0], [5, 1], [2, 4]])
    clicked = torch.tensor([[3, 0], [4, 6], [2, 0], [1, 5]])

    found = occurs(candidates, clicked, torch.tensor([0, 0, 1, 2]))

    # The unknown value 1 and the padding 0 never occur; the last row has no clicks.
    assert found.tolist() == [[False, True], [True, False], [True, False], [False, False]]


@pytest.mark.parametrize("stride", [1, 64, 1000])
def test_buckets_are_even(stride: int) -> None:
    """A regular grid of ids fills as many buckets as a random throw does, or more."""
    ids = torch.arange(2, 302) * stride
    pairs = torch.cartesian_prod(ids, ids)
    n_buckets = 100_000

    filled = bucket(pairs[:, 0], pairs[:, 1], 0, n_buckets).bincount(minlength=n_buckets)

    thrown = n_buckets * (1 - np.exp(-len(pairs) / n_buckets))
    assert int((filled > 0).sum()) > 0.97 * thrown
    assert int(filled.max()) <= 10


@pytest.mark.parametrize("number", [0, 1, 12])
def test_buckets_of_the_largest_ids_do_not_overflow(number: int) -> None:
    ids: list[Any] = [0, 1, 2, 12_345, HASH_PRIME - 1, HASH_PRIME]
    left, right = torch.cartesian_prod(torch.tensor(ids), torch.tensor(ids)).T

    buckets = bucket(left, right, number, 997)

    pairs = zip(left.tolist(), right.tolist(), strict=True)
    assert buckets.tolist() == [slow_bucket(a, b, number, 997) for a, b in pairs]
