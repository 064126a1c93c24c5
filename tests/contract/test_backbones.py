"""What every backbone must do, whatever the columns of its dataset."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from aqcl.backbones import BACKBONES
from aqcl.backbones.din import DIN
from aqcl.contracts import Attentive, Backbone, Facts, field_width, item_width
from aqcl.schema import Schema
from aqcl.views import mask_history
from tests.model_inputs import (
    LENGTHS,
    SCHEMAS,
    SMALL_OPTIONS,
    WITH_FIELDS,
    make_backbone,
    make_batch,
    make_facts,
    predict,
    take_rows,
)

NO_RANDOMNESS: dict[str, Any] = {"dropout": 0.0, "id_dropout": 0.0}

Make = Callable[..., tuple[nn.Module, Backbone]]


@pytest.fixture(params=SCHEMAS)
def schema(request: pytest.FixtureRequest) -> Schema:
    return SCHEMAS[request.param]


@pytest.fixture
def facts(schema: Schema) -> Facts:
    return make_facts(schema)


@pytest.fixture(params=BACKBONES)
def make(request: pytest.FixtureRequest, facts: Facts) -> Make:
    def made(seed: int = 0, *, random: bool = True) -> tuple[nn.Module, Backbone]:
        cls = BACKBONES[request.param]
        known = {field.name for field in dataclasses.fields(cls.Options)}
        options = {} if random else {k: v for k, v in NO_RANDOMNESS.items() if k in known}
        return make_backbone(cls, facts, seed, **options)

    return made


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("lengths", [LENGTHS, (0, 0, 0), (3,), (0,)], ids=str)
def test_shapes_and_finite_values(
    make: Make, schema: Schema, lengths: tuple[int, ...], training: bool
) -> None:
    module, backbone = make()
    module.train(training)
    batch = make_batch(schema, lengths)

    embedded = backbone.embed(batch)
    latent = backbone.encode(embedded)
    logit = backbone.predict(latent, embedded)

    assert embedded.item.shape[:2] == (len(batch), 1 + len(schema.on("item")))
    assert embedded.user.shape[:2] == (len(batch), 1 + len(schema.on("user")))
    assert embedded.context.shape[:2] == (len(batch), len(schema.on("context")))
    assert embedded.history.shape[:2] == (sum(lengths), 1 + len(schema.on("item")))
    assert latent.shape == (len(batch), backbone.latent_dim)
    assert logit.shape == (len(batch),)
    assert latent.isfinite().all()
    assert logit.isfinite().all()


def test_the_empty_batch(make: Make, schema: Schema) -> None:
    module, backbone = make()
    module.eval()

    assert predict(backbone, make_batch(schema, ())).shape == (0,)


@pytest.mark.parametrize("lengths", [LENGTHS, (0, 0)], ids=str)
def test_gradients_reach_every_parameter(
    make: Make, schema: Schema, lengths: tuple[int, ...]
) -> None:
    module, backbone = make()

    predict(backbone, make_batch(schema, lengths)).square().sum().backward()

    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # Without any click there is nothing to attend to.
        assert parameter.grad.any() or not sum(lengths), name


def test_every_column_matters(make: Make, schema: Schema) -> None:
    module, backbone = make()
    module.eval()
    batch = make_batch(schema, (3, 3))
    before = predict(backbone, batch)

    others = {
        "user": dataclasses.replace(batch, user=(batch.user - 1) % 6 + 2),
        "item": dataclasses.replace(batch, item=(batch.item - 1) % 9 + 2),
        "history": dataclasses.replace(batch, history=(batch.history - 1) % 9 + 2),
    }
    for name, column in batch.context.items():
        other = column + 1 if column.is_floating_point() else column % 8 + 1
        others[name] = dataclasses.replace(batch, context={**batch.context, name: other})
    for name, changed in others.items():
        assert (predict(backbone, changed) != before).all(), name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for name in ("dien", "dmr", "sasrec")),
        *((name, False) for name in ("autoint", "dcn-v2", "deepfm", "din", "fm", "mean-pool")),
        ("wide-deep", False),
    ],
)
def test_few_latents_know_the_order_of_the_clicks(name: str, expected: bool) -> None:
    """The note on CL4SRec's reordering names those that do."""
    module, backbone = make_backbone(BACKBONES[name], make_facts(WITH_FIELDS))
    module.eval()
    batch = make_batch(WITH_FIELDS, (6, 5, 4))
    turned = torch.cat([own.flip(0) for own in batch.history.split([6, 5, 4])])

    latent, other = (
        backbone.encode(backbone.embed(dataclasses.replace(batch, history=history)))
        for history in (batch.history, turned)
    )

    assert torch.allclose(latent, other, rtol=0, atol=2e-6) != expected


def test_a_row_does_not_depend_on_its_neighbours(make: Make, schema: Schema) -> None:
    module, backbone = make()
    module.eval()
    batch = make_batch(schema)
    order = [4, 0, 6, 2, 5, 1, 3]

    together = predict(backbone, batch)

    torch.testing.assert_close(predict(backbone, take_rows(batch, order)), together[order])
    for row in range(len(batch)):
        torch.testing.assert_close(predict(backbone, take_rows(batch, [row])), together[[row]])


def test_the_same_seed_gives_the_same_model(make: Make, schema: Schema) -> None:
    batch = make_batch(schema)

    def trained_logits(seed: int) -> Tensor:
        _, backbone = make(seed)
        torch.manual_seed(5)
        return predict(backbone, batch)

    assert torch.equal(trained_logits(0), trained_logits(0))
    assert not torch.equal(trained_logits(0), trained_logits(1))


def test_the_state_survives_the_disk(make: Make, schema: Schema, tmp_path: Path) -> None:
    (module, backbone), (other_module, other) = make(0), make(1)
    batch = make_batch(schema)
    predict(backbone, batch)  # moves running statistics
    safetensors.torch.save_file(module.state_dict(), tmp_path / "state")
    module.eval()
    other_module.eval()
    assert not torch.equal(predict(other, batch), predict(backbone, batch))

    other_module.load_state_dict(safetensors.torch.load_file(tmp_path / "state"))

    assert torch.equal(predict(other, batch), predict(backbone, batch))


@pytest.mark.parametrize("training", [True, False])
def test_unseen_users_and_items_are_normal(make: Make, schema: Schema, training: bool) -> None:
    module, backbone = make()
    module.train(training)

    logit = predict(backbone, make_batch(schema, unseen=True))

    assert logit.isfinite().all()


def test_unseen_items_without_attributes_are_all_alike(make: Make, schema: Schema) -> None:
    module, backbone = make()
    module.eval()
    batch = make_batch(schema, unseen=True)
    beyond = torch.full_like(batch.item, schema.n_items)

    logit = predict(backbone, batch)
    other = predict(backbone, dataclasses.replace(batch, item=beyond))

    assert torch.equal(logit, other) == (not schema.on("item"))


def test_items_are_embedded_as_candidates_are(make: Make, schema: Schema) -> None:
    module, backbone = make()
    module.eval()
    batch = make_batch(schema)

    assert torch.equal(backbone.embed_items(batch.item), backbone.embed(batch).item)


def test_widths_are_read_off_a_backbone(make: Make, schema: Schema) -> None:
    _, backbone = make()

    assert field_width(backbone) == SMALL_OPTIONS["embedding_dim"]
    assert item_width(backbone) == (1 + len(schema.on("item"))) * SMALL_OPTIONS["embedding_dim"]


def test_every_table_of_ids_and_attributes_is_penalised_once(make: Make, schema: Schema) -> None:
    module, backbone = make()
    vectors = [p for p in module.parameters() if p.dim() == 2 and p.shape[1] > 1]
    of_items = {id(p) for p in vectors if len(p) == schema.n_items}

    tables = backbone.embedding_tables()

    found = {id(table) for table in tables}
    assert found <= {id(parameter) for parameter in module.parameters()}
    assert of_items
    assert of_items <= found
    assert len(found) == len(tables) == 1 + len(of_items) + len(schema.fields)
    sizes = {schema.n_users, schema.n_items} | {f.size or 2 for f in schema.fields}
    assert {table.shape[0] for table in tables} == sizes


@pytest.mark.parametrize("training", [True, False])
def test_masked_clicks_are_as_good_as_absent(make: Make, schema: Schema, training: bool) -> None:
    module, backbone = make(random=False)
    module.train(training)
    embedded = backbone.embed(make_batch(schema))
    masked = mask_history(embedded, 0.5, torch.Generator().manual_seed(0))
    assert masked.keep is not None
    assert not masked.keep.all()

    logit = backbone.predict(backbone.encode(masked), masked)

    absent = masked.without_masked()
    torch.testing.assert_close(logit, backbone.predict(backbone.encode(absent), absent))


def test_shared_attention_changes_nothing(make: Make, schema: Schema) -> None:
    module, backbone = make()
    if not isinstance(backbone, Attentive):
        pytest.skip("has no attention that passes could share")
    module.eval()
    embedded = backbone.embed(make_batch(schema))

    attended = backbone.attend(embedded)

    assert attended.scores is not None
    assert attended.scores.shape == embedded.segment.shape
    assert torch.equal(backbone.encode(attended), backbone.encode(embedded))


def test_the_first_order_logit_is_added(make: Make, schema: Schema) -> None:
    module, backbone = make()
    module.eval()
    embedded = backbone.embed(make_batch(schema))
    latent = backbone.encode(embedded)
    more = dataclasses.replace(embedded, linear=embedded.linear + 1)

    difference = backbone.predict(latent, more) - backbone.predict(latent, embedded)

    torch.testing.assert_close(difference, torch.ones(len(LENGTHS)))


def padded_din(din: DIN, batch: Any) -> Tensor:
    """DIN with histories padded to one length and a mask, as most libraries write it."""
    embedded = din.embed(batch)
    n_rows, longest = len(batch), max(LENGTHS)
    width = embedded.item[0].numel()
    clicks, mask = torch.zeros(n_rows, longest, width), torch.zeros(n_rows, longest)
    for row in range(n_rows):
        start, stop = batch.offsets[row : row + 2].tolist()
        clicks[row, : stop - start] = embedded.history[start:stop].flatten(1)
        mask[row, : stop - start] = 1
    candidate = embedded.item.flatten(1)
    repeated = candidate[:, None].expand_as(clicks)
    hidden = torch.cat([repeated, clicks, repeated - clicks, repeated * clicks], dim=2)
    layers = [m for m in din.attention.modules() if isinstance(m, nn.Linear)]
    for layer in layers[:-1]:
        hidden = torch.sigmoid(hidden @ layer.weight.T + layer.bias)
    scores = (hidden @ layers[-1].weight.T + layers[-1].bias).squeeze(2)
    if din.options.attention_weights == "softmax":
        scores = scores.masked_fill(mask == 0, -1e30).softmax(1)
    interest = ((scores * mask)[:, :, None] * clicks).sum(1)
    parts = [embedded.user.flatten(1), candidate, interest, interest * candidate]
    x = torch.cat([*parts, embedded.context.flatten(1)], dim=1)
    for layer in (m for m in din.top.layers if isinstance(m, nn.Linear)):
        x = x @ layer.weight.T + layer.bias
        variance, mean = torch.var_mean(x, 0, correction=0)
        p = torch.sigmoid((x - mean) / variance.sqrt() if din.training else x)
        x = p * x  # Dice with its initial slope of zero and running statistics of 0 and 1
    return (x @ din.head.weight.T).squeeze(1) + din.head.bias


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("weights", ["none", "softmax"])
def test_jagged_din_is_padded_din(facts: Facts, weights: str, training: bool) -> None:
    options = NO_RANDOMNESS | {"attention_weights": weights}
    module, din = make_backbone(DIN, facts, **options)
    assert isinstance(din, DIN)
    batch = make_batch(facts.schema)

    module.train(training)
    expected = padded_din(din, batch)

    torch.testing.assert_close(predict(din, batch), expected, rtol=0, atol=1e-5)


def test_din_without_the_user_id_ignores_the_user_id(facts: Facts) -> None:
    module, din = make_backbone(DIN, facts, user_id=False)
    module.eval()
    batch = make_batch(facts.schema)
    if facts.schema == WITH_FIELDS:
        facts.attributes["city"][:] = 2
        facts.attributes["income"][:] = 1
        module, din = make_backbone(DIN, facts, user_id=False)
        module.eval()
    other = dataclasses.replace(batch, user=(batch.user - 1) % 6 + 2)

    assert torch.equal(predict(din, other), predict(din, batch))
