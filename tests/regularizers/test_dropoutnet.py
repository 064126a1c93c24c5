"""DropoutNet: which ids are hidden, how often, and what stays."""

import dataclasses
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from aqcl.backbones import BACKBONES
from aqcl.backbones.din import DIN
from aqcl.batch import Embedded
from aqcl.config import build
from aqcl.contracts import Regularizer
from aqcl.objective import Moment, Objective
from aqcl.regularizers.dropoutnet import DropoutNet, DropoutNetOptions
from tests.model_inputs import (
    WITH_FIELDS,
    make_backbone,
    make_batch,
    make_embedded,
    make_facts,
)
from tests.objectives import make_step

MANY = (1,) * 4000


def perturbed(embedded: Embedded, seed: int = 0, **options: Any) -> Embedded:
    module = DropoutNet(build(DropoutNetOptions, options))
    return module.perturb(embedded, torch.Generator().manual_seed(seed))


def hidden(vectors: Tensor) -> Tensor:
    return (vectors[:, 0] == 0).all(1)


def test_each_id_is_hidden_at_its_own_rate_and_independently() -> None:
    embedded = make_embedded(MANY)

    after = perturbed(embedded, user_rate=0.5, item_rate=0.2)

    users, items = hidden(after.user).double(), hidden(after.item).double()
    assert users.mean() == pytest.approx(0.5, abs=0.03)
    assert items.mean() == pytest.approx(0.2, abs=0.03)
    assert (users * items).mean() == pytest.approx(0.1, abs=0.03)


def test_what_is_not_hidden_stays_as_it_is() -> None:
    embedded = make_embedded(MANY)

    after = perturbed(embedded)

    assert torch.equal(after.user[:, 1:], embedded.user[:, 1:])
    assert torch.equal(after.item[:, 1:], embedded.item[:, 1:])
    for side in ("user", "item"):
        old, new = getattr(embedded, side), getattr(after, side)
        kept = ~hidden(new)
        assert torch.equal(new[kept], old[kept])  # never rescaled
    for name in ("context", "history", "segment", "offsets", "activity", "linear"):
        assert getattr(after, name) is getattr(embedded, name)


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_rates_of_0_and_1_hide_no_id_and_every_id(rate: float, share: float) -> None:
    after = perturbed(make_embedded(MANY), user_rate=rate, item_rate=rate)

    assert hidden(after.user).double().mean() == share
    assert hidden(after.item).double().mean() == share


def test_mode_mean_replaces_all_candidates_of_a_batch_or_none() -> None:
    embedded = make_embedded()
    mean = embedded.item[:, 0].mean(0).expand_as(embedded.item[:, 0])

    after = [perturbed(embedded, seed, mode="mean", item_rate=0.3) for seed in range(200)]

    replaced = [torch.equal(one.item[:, 0], mean) for one in after]
    untouched = [torch.equal(one.item, embedded.item) for one in after]
    assert all(a != b for a, b in zip(replaced, untouched, strict=True))
    assert sum(replaced) / 200 == pytest.approx(0.3, abs=0.1)
    for one in after:
        assert torch.equal(one.item[:, 1:], embedded.item[:, 1:])
        assert one.user is embedded.user


def test_a_hidden_id_has_no_gradient() -> None:
    for options in ({"item_rate": 1.0}, {"item_rate": 1.0, "mode": "mean"}):
        embedded = make_embedded()
        item = embedded.item.requires_grad_()

        perturbed(dataclasses.replace(embedded, item=item), **options).item.sum().backward()

        assert item.grad is not None
        assert not item.grad[:, 0].any()
        assert item.grad[:, 1:].all()


@pytest.mark.parametrize("mode", ["zero", "mean"])
@pytest.mark.parametrize("name", BACKBONES)
def test_the_whole_model_sees_the_hidden_candidate(
    name: str, mode: Literal["zero", "mean"]
) -> None:
    """No way through the model leads from the loss to an id that only a candidate has."""
    module, backbone = make_backbone(BACKBONES[name], make_facts(WITH_FIELDS), id_dropout=0.0)
    options = DropoutNetOptions(item_rate=1.0, mode=mode)
    objective = Objective(module, {"dropoutnet": DropoutNet(options)})
    batch = make_batch(WITH_FIELDS)
    clicked = set(batch.history.tolist())
    only_candidates = [item for item in set(batch.item.tolist()) if item not in clicked]
    assert only_candidates

    objective(batch, Moment(0, 0, 0, 0)).total.backward()

    of_items = [t for t in backbone.embedding_tables() if len(t) == WITH_FIELDS.n_items]
    assert of_items
    for table in of_items:
        assert table.grad is not None
        assert not table.grad[only_candidates].any()
    of_clicks = module.get_parameter("embeddings.item_table").grad
    assert of_clicks is not None
    assert of_clicks[sorted(clicked)].any()


@pytest.mark.parametrize("mode", ["zero", "mean"])
@pytest.mark.parametrize("name", BACKBONES)
def test_hidden_candidates_may_be_exchanged(name: str, mode: str) -> None:
    module, backbone = make_backbone(BACKBONES[name], make_facts())
    module.eval()
    batch = make_batch()
    latents = []

    for hide in (True, False):
        for item in (batch.item, batch.item.roll(1)):
            embedded = backbone.embed(dataclasses.replace(batch, item=item))
            if hide:
                embedded = perturbed(embedded, user_rate=0.0, item_rate=1.0, mode=mode)
            latents.append(backbone.encode(embedded))

    torch.testing.assert_close(latents[1], latents[0])
    assert not torch.allclose(latents[3], latents[2])


def test_there_is_no_loss() -> None:
    module, _ = make_backbone(DIN, make_facts(WITH_FIELDS))
    dropoutnet = DropoutNet()
    regularizer: Regularizer = dropoutnet
    step = make_step(Objective(module, {}), make_batch(WITH_FIELDS))

    assert regularizer.loss(step) is None
    assert not list(dropoutnet.parameters())
