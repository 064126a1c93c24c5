"""Building blocks: dropout, normalisation, Dice, embeddings, jagged pooling, target attention."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aqcl.contracts import Facts
from aqcl.layers import (
    MLP,
    Activation,
    BatchNorm,
    Dice,
    Dropout,
    Embeddings,
    TargetAttention,
    activation,
    dropout_mask,
    seed_dropout,
    segment_softmax,
    segment_sum,
    statistics_held,
)
from aqcl.schema import UNKNOWN, Field, Schema
from tests.model_inputs import IDS_ONLY, WITH_FIELDS, make_batch, make_facts

ACTIVATIONS: list[Activation] = ["dice", "relu", "prelu", "sigmoid", "leaky_relu"]
STANDARD_ERRORS = 5


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_dropout_masks_have_the_rate_in_every_lane(rate: float) -> None:
    """Four numbers are cut from one 64-bit draw: each must have the rate, and they must differ."""
    n_draws = 100_000

    kept = (dropout_mask(torch.empty(n_draws, 4), rate, seeded()) > 0).double()

    error = STANDARD_ERRORS * math.sqrt(rate * (1 - rate) / n_draws)
    torch.testing.assert_close(
        kept.mean(0), torch.full((4,), 1 - rate, dtype=torch.float64), rtol=0, atol=error
    )
    lanes = torch.corrcoef(kept.T) - torch.eye(4)
    assert lanes.abs().max() < STANDARD_ERRORS / math.sqrt(n_draws)
    following = torch.corrcoef(torch.stack([kept[:-1, 0], kept[1:, 0]]))[0, 1]
    assert abs(following) < STANDARD_ERRORS / math.sqrt(n_draws)


def test_dropout_masks_scale_what_they_keep() -> None:
    values = dropout_mask(torch.empty(64, dtype=torch.float64), 0.2, seeded()).unique()

    assert values.tolist() == [0.0, 1.25]


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0, 2), (5, 3), (2, 2, 3)])
def test_dropout_masks_have_the_shape_asked_for(shape: tuple[int, ...]) -> None:
    assert dropout_mask(torch.empty(shape), 0.5, seeded()).shape == shape


def test_dropout_masks_follow_their_generator() -> None:
    first, again, other = (dropout_mask(torch.empty(64), 0.5, seeded(seed)) for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.999_999])
def test_dropout_masks_at_extreme_rates_are_finite(rate: float) -> None:
    mask = dropout_mask(torch.empty(1000), rate, seeded())

    assert mask.isfinite().all()
    assert (mask > 0).double().mean() == pytest.approx(1 - rate, abs=0.01)


def test_dropout_acts_in_training_only_and_reads_the_seeded_stream() -> None:
    layer, x = Dropout(0.5), torch.ones(64)
    seed_dropout(3)
    first = layer(x)
    seed_dropout(3)

    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("n_rows", [2, 3, 17])
def test_batch_norm_is_that_of_torch(n_rows: int) -> None:
    ours, theirs = BatchNorm(3, eps=1e-5), nn.BatchNorm1d(3, affine=False)
    for seed in range(3):
        x = torch.randn(n_rows, 3, generator=seeded(seed)) * 4 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    ours.eval()
    theirs.eval()

    assert theirs.running_mean is not None
    assert theirs.running_var is not None
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.var, theirs.running_var)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("n_rows", [0, 1])
def test_batch_norm_of_fewer_than_two_rows_uses_the_running_statistics(n_rows: int) -> None:
    norm = BatchNorm(3, eps=1e-5)
    norm(torch.randn(9, 3, generator=seeded()) + 5)
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    x = torch.randn(n_rows, 3, generator=seeded(1))

    ours = norm(x)

    torch.testing.assert_close(ours, (x - norm.mean) / (norm.var + 1e-5).sqrt())
    assert all(torch.equal(norm.state_dict()[key], value) for key, value in before.items())


def test_held_statistics_stay_and_the_batch_is_normalised_by_its_own() -> None:
    module = nn.Sequential(nn.Linear(3, 3), Dice(3))
    norm = next(m for m in module.modules() if isinstance(m, BatchNorm))
    x = torch.randn(9, 3, generator=seeded()) + 5
    with statistics_held(module):
        held = module(x)
    assert norm.mean.tolist() == [0.0] * 3

    assert torch.equal(module(x), held)
    assert norm.mean.tolist() != [0.0] * 3


def test_statistics_are_released_after_an_error() -> None:
    module = nn.Sequential(Dice(3))

    with pytest.raises(KeyError), statistics_held(module):
        raise KeyError

    assert [m.hold for m in module.modules() if isinstance(m, BatchNorm)] == [False]


def test_dice_is_its_equation() -> None:
    dice = Dice(2)
    dice.slope.data = torch.tensor([0.3, -0.2])
    x = torch.randn(8, 2, generator=seeded()) * 3

    p = torch.sigmoid((x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-8).sqrt())

    torch.testing.assert_close(dice(x), p * x + (1 - p) * dice.slope * x)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("n_rows", [0, 1, 4])
def test_activations_take_any_number_of_rows(name: Activation, n_rows: int) -> None:
    layer = activation(name, 3)

    assert layer(torch.ones(n_rows, 3)).shape == (n_rows, 3)


def test_an_mlp_ends_with_an_activation() -> None:
    mlp = MLP(4, (5, 3), "relu", 0.5)

    assert [type(layer) for layer in mlp] == [nn.Linear, nn.ReLU, Dropout] * 2
    assert (mlp(torch.randn(9, 4, generator=seeded())) >= 0).all()
    assert [type(layer) for layer in MLP(4, (5,), "relu")] == [nn.Linear, nn.ReLU]


def make_embeddings(facts: Facts, **changes: Any) -> Embeddings:
    options: dict[str, Any] = {"dim": 4, "id_dropout": 0.0, "init_std": 1.0} | changes
    torch.manual_seed(0)
    return Embeddings(facts.schema, facts.attributes, **options)


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


@settings(max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_jagged_pooling_is_a_loop_over_rows(lengths: list[int]) -> None:
    batch = make_batch(lengths=lengths)
    values = torch.randn(sum(lengths), 3, generator=seeded())
    scores = torch.randn(sum(lengths), generator=seeded()) * 50

    sums = segment_sum(values, batch.segment, len(lengths))
    weights = segment_softmax(scores, batch.segment, len(lengths))

    for row, (start, stop) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        torch.testing.assert_close(sums[row], values[start:stop].sum(0))
        torch.testing.assert_close(weights[start:stop], scores[start:stop].softmax(0))


def test_jagged_softmax_is_differentiated_right() -> None:
    batch = make_batch()
    scores = torch.randn(len(batch.segment), generator=seeded(), dtype=torch.float64)

    assert torch.autograd.gradcheck(
        lambda x: segment_softmax(x, batch.segment, len(batch)), scores.requires_grad_()
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(6,), (6, 4), (6, 4, 3)])
def test_factored_attention_is_the_plain_network(name: Activation, sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    attention = TargetAttention(5, sizes, name).double()
    batch = make_batch()
    candidate = torch.randn(len(batch), 5, generator=seeded(1), dtype=torch.float64)
    clicks = torch.randn(len(batch.segment), 5, generator=seeded(2), dtype=torch.float64)
    own = candidate[batch.segment]
    inputs = torch.cat([own, clicks, own - clicks, own * clicks], dim=1)
    plain = nn.Sequential(attention.first, attention.first_activation, attention.rest)

    scores = attention(candidate, clicks, batch.segment)

    torch.testing.assert_close(scores, attention.last(plain(inputs)).squeeze(1))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_attention_over_no_clicks_at_all(name: Activation) -> None:
    attention = TargetAttention(5, (4,), name)

    scores = attention(torch.ones(2, 5), torch.ones(0, 5), torch.zeros(0, dtype=torch.int64))

    assert scores.shape == (0,)
