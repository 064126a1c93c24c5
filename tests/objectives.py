"""Small objectives, their steps and a few updates, for the tests of regularizers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from aqcl.backbones.din import DIN
from aqcl.batch import Batch
from aqcl.contracts import Attentive, Backbone, Facts, Regularizer, Step
from aqcl.objective import Moment, Objective
from aqcl.regularizers import REGULARIZERS
from tests.model_inputs import (
    LENGTHS,
    WITH_FIELDS,
    make_backbone,
    make_batch,
    make_facts,
    small_options,
)

MIXED = (*LENGTHS, 2, 4, 1, 6, 0, 3, 3, 2, 1)


def mixed_batch(seed: int = 0) -> Batch:
    """Samples with every kind of column and histories of 0 to 6 clicks."""
    return make_batch(WITH_FIELDS, MIXED, seed)


def make_objective(
    regularizers: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    *,
    facts: Facts | None = None,
    backbone_class: type[Backbone] = DIN,
    **options: Any,
) -> Objective:
    """A DIN with regularizers, each with the same initial weights whatever stands beside it."""
    facts = facts or make_facts(WITH_FIELDS)
    module, backbone = make_backbone(backbone_class, facts, seed, **options)
    made: dict[str, nn.Module] = {}
    for name, changes in (regularizers or {}).items():
        torch.manual_seed(seed + 1)
        cls = REGULARIZERS[name]
        regularizer = cls.create(facts, backbone, small_options(cls, **changes))
        assert isinstance(regularizer, nn.Module)
        made[name] = regularizer
    return Objective(module, made)


def train(objective: Objective, n_steps: int, batch: Batch | None = None) -> list[dict[str, float]]:
    """A few steps of Adam; returns the logs of each, and `total`."""
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    history = []
    for number in range(n_steps):
        batch_now = batch if batch is not None else mixed_batch(number)
        losses = objective(batch_now, Moment(3, 0, number, number), diagnose=True)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        logs = {key: float(value) for key, value in losses.logs.items()}
        history.append(logs | {"total": float(losses.total.detach())})
    return history


def make_step(objective: Objective, batch: Batch, **changes: Any) -> Step:
    """What a regularizer sees of the first step."""
    backbone = objective.backbone
    assert isinstance(backbone, Backbone)
    embedded = backbone.embed(batch)
    if isinstance(backbone, Attentive):
        embedded = backbone.attend(embedded)
    latent = backbone.encode(embedded)
    step = Step(
        backbone=backbone,
        batch=batch,
        embedded=embedded,
        latent=latent,
        logit=backbone.predict(latent, embedded),
        generator=torch.Generator().manual_seed(0),
        view_seed=7,
        number=0,
        diagnose=True,
    )
    return dataclasses.replace(step, **changes)


def only(objective: Objective) -> tuple[nn.Module, Regularizer]:
    module = objective.regularizers[0]
    assert isinstance(module, Regularizer)
    return module, module


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    mine, theirs = first.state_dict(), second.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
