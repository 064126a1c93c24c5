"""Every backbone and regularizer trains under every optimizer."""

import dataclasses
from typing import get_args

import pytest
import torch

from aqcl.backbones import BACKBONES
from aqcl.config import build
from aqcl.embeddings import Embeddings
from aqcl.experiment import Optimizer, TrainOptions
from aqcl.objective import Moment
from aqcl.optimizers import Optimizers
from aqcl.regularizers import REGULARIZERS
from aqcl.schema import UNKNOWN, Schema
from tests.model_inputs import SCHEMAS, make_batch, make_facts
from tests.objectives import make_objective

LENGTHS = (3, 1, 4, 2)
N_USERS, N_ITEMS = 60, 70


def large(schema: Schema) -> Schema:
    """So many ids that three small batches hold few of them."""
    return dataclasses.replace(
        schema, n_users=N_USERS, n_items=N_ITEMS, n_user_entities=N_USERS, n_item_entities=N_ITEMS
    )


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize("optimizer_name", get_args(Optimizer))
@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_trains(name: str, optimizer_name: str, schema: Schema) -> None:
    schema = large(schema)
    objective = make_objective(facts=make_facts(schema), backbone_class=BACKBONES[name])
    optimizer = Optimizers(
        objective, objective.backbone, build(TrainOptions, {"optimizer": optimizer_name})
    )
    before = {key: value.clone() for key, value in objective.named_parameters()}
    users, items, candidates = {UNKNOWN}, {UNKNOWN}, {UNKNOWN}

    for number in range(3):
        batch = make_batch(schema, LENGTHS, seed=number)
        users |= set(batch.user.tolist())
        candidates |= set(batch.item.tolist())
        items |= set(torch.cat([batch.item, batch.history]).tolist())
        losses = objective(batch, Moment(0, 0, number, number))
        assert losses.total.isfinite()
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()

    changed = {key: value != before[key] for key, value in objective.named_parameters()}
    assert all(change.any() for change in changed.values())
    layers = [m for m in objective.modules() if isinstance(m, Embeddings)]
    tables = [key for key, change in changed.items() if len(change) in (N_USERS, N_ITEMS)]
    assert len(tables) >= 2 * len(layers) > 0
    for key in tables:
        looked_up = users if len(changed[key]) == N_USERS else items
        if key.endswith(".output_table"):
            looked_up = candidates
        rows = set(changed[key].any(1).nonzero().flatten().tolist())
        assert (rows <= looked_up) == (optimizer_name != "adam" or "first_order" in key), key
        # Id dropout may have looked a few of them up as unknown.
        assert len(rows & looked_up) > 0.8 * len(looked_up), key


@pytest.mark.parametrize("optimizer_name", ["lazy_adam", "rowwise_adagrad"])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_regularizer_trains(name: str, optimizer_name: str) -> None:
    schema = large(SCHEMAS["with fields"])
    objective = make_objective({name: {}}, facts=make_facts(schema))
    optimizer = Optimizers(
        objective, objective.backbone, build(TrainOptions, {"optimizer": optimizer_name})
    )
    before = {key: value.clone() for key, value in objective.named_parameters()}

    for number in range(4):
        losses = objective(make_batch(schema, 2 * LENGTHS, number), Moment(0, 0, number, number))
        assert losses.total.isfinite()
        optimizer.zero_grad()
        losses.total.backward()
        assert all(t.grad is not None and t.grad.is_sparse for t in optimizer.tables)
        optimizer.step()

    own = [key for key in before if not key.startswith("backbone.")]
    after = dict(objective.named_parameters())
    assert all((after[key] != before[key]).any() for key in own)
    assert all(value.isfinite().all() for value in after.values())
