"""What every regularizer must do, on a DIN; test_combinations.py covers the other backbones."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from aqcl.backbones.din import DIN
from aqcl.batch import Embedded
from aqcl.config import build
from aqcl.contracts import Backbone
from aqcl.errors import ConfigError
from aqcl.layers import BatchNorm
from aqcl.objective import Losses, Moment, Objective
from aqcl.regularizers import REGULARIZERS
from tests.model_inputs import LENGTHS, WITH_FIELDS, make_batch
from tests.objectives import make_objective, make_step, mixed_batch, only, same_weights, train


@pytest.fixture(params=REGULARIZERS)
def name(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def explicit(name: str) -> str:
    """The name of a regularizer that has a loss."""
    if not has_loss(name):
        pytest.skip("has no explicit part")
    return name


def has_loss(name: str) -> bool:
    """Whether a regularizer has an explicit part."""
    objective = make_objective({name: settled(name)})
    return only(objective)[1].loss(make_step(objective, mixed_batch())) is not None


def usual_widths(name: str) -> dict[str, Any]:
    """The projector's own widths: in a few dimensions a descent starts slowly."""
    options = REGULARIZERS[name].Options
    known = {field.name: field.default for field in dataclasses.fields(options)}
    return {key: known[key] for key in ("dim", "hidden_dim") if key in known}


def settled(name: str) -> dict[str, Any]:
    """Options that switch a warm-up off where there is one."""
    known = {field.name for field in dataclasses.fields(REGULARIZERS[name].Options)}
    return {"warmup_steps": 0} if "warmup_steps" in known else {}


def test_weight_0_changes_nothing_bit_for_bit(name: str) -> None:
    plain, regularized, weightless = (
        make_objective(),
        make_objective({name: {}}),
        make_objective({name: {"weight": 0}}),
    )
    untouched = make_objective({name: {}}).regularizers

    logs = [train(objective, 4) for objective in (plain, regularized, weightless)]

    assert same_weights(weightless.backbone, plain.backbone)
    assert logs[2] == logs[0]
    assert same_weights(weightless.regularizers, untouched)
    assert not same_weights(regularized.backbone, plain.backbone)


def test_an_inactive_neighbour_changes_nothing(name: str) -> None:
    others = {other: {"weight": 0} for other in REGULARIZERS if other != name}
    alone, after, before = (
        make_objective({name: {}}),
        make_objective({**others, name: {}}),
        make_objective({name: {}, **others}),
    )

    logs = [train(objective, 4) for objective in (alone, after, before)]

    assert logs[0] == logs[1] == logs[2]
    assert same_weights(after.backbone, alone.backbone)
    assert same_weights(before.backbone, alone.backbone)


def test_ten_steps_on_one_batch_lower_its_loss(explicit: str) -> None:
    options = {"weight": 1.0, **settled(explicit), **usual_widths(explicit)}
    objective = make_objective({explicit: options})
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    values = []
    for _ in range(11):  # the same view and dropout each time: a plain descent
        losses = objective(mixed_batch(), Moment(3, 0, 0, 0))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        values.append(float(losses.logs[f"{explicit}/value"]))

    assert values[-1] < values[0] - 0.05


def test_gradients_reach_its_own_parameters_and_the_backbone(explicit: str) -> None:
    objective = make_objective({explicit: settled(explicit)})
    module, regularizer = only(objective)

    step = make_step(objective, mixed_batch())
    step.latent.retain_grad()
    term = regularizer.loss(step)
    assert term is not None
    (term.value + term.own).backward()

    for label, parameter in module.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.any(), label
    backbone = objective.backbone
    assert isinstance(backbone, Backbone)
    found = [table.grad for table in backbone.embedding_tables()]
    assert any(one is not None and one.any() for one in found)
    if step.latent.grad is None:
        return  # it looks at the embeddings alone
    for label, parameter in objective.backbone.named_parameters():
        if not label.startswith("head."):
            assert parameter.grad is not None, label
            assert parameter.grad.any(), label


def test_without_the_user_id_it_does_not_train_one(explicit: str) -> None:
    objective = make_objective({explicit: settled(explicit)}, user_id=False)
    term = only(objective)[1].loss(make_step(objective, mixed_batch()))
    assert term is not None
    (term.value + term.own).backward()

    backbone = objective.backbone
    assert isinstance(backbone, DIN)
    users = backbone.embeddings.user_table.grad
    assert users is None or not users.any()


@pytest.mark.parametrize("lengths", [(3,), (0,), (0, 0, 0), LENGTHS], ids=str)
def test_small_and_empty_batches_are_finite(name: str, lengths: tuple[int, ...]) -> None:
    objective = make_objective({name: {}})
    batch = make_batch(WITH_FIELDS, lengths)

    logs = train(objective, 5, batch)

    for step in logs:
        assert not [key for key, value in step.items() if not math.isfinite(value)]
        assert (f"{name}/value" in step) == has_loss(name)
    assert all(value.isfinite().all() for value in objective.state_dict().values())


def test_a_step_repeats_bit_for_bit(name: str) -> None:
    first, again = make_objective({name: {}}), make_objective({name: {}})

    assert train(first, 5) == train(again, 5)
    assert same_weights(first, again)


@pytest.mark.parametrize("warm", [False, True])
def test_two_batches_may_share_a_backward_pass(name: str, warm: bool) -> None:
    """As where a loop adds up the losses of several batches before an update."""
    options = {} if warm else settled(name)
    together, apart = make_objective({name: options}), make_objective({name: options})

    def total(objective: Objective, number: int) -> Tensor:
        losses: Losses = objective(mixed_batch(number), Moment(3, 0, number, number))
        return losses.total

    (total(together, 0) + total(together, 1)).backward()

    for number in range(2):
        total(apart, number).backward()
    for ours, theirs in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_state_survives_the_disk(name: str, tmp_path: Path) -> None:
    objective, other = make_objective({name: {}}, 0), make_objective({name: {}}, 1)
    train(objective, 5)
    safetensors.torch.save_file(objective.state_dict(), tmp_path / "state")

    other.load_state_dict(safetensors.torch.load_file(tmp_path / "state"))

    assert same_weights(other, objective)
    assert train(other, 3) == train(objective, 3)


def test_the_primary_pass_of_the_first_step_is_that_of_the_plain_model(name: str) -> None:
    plain, regularized = make_objective(), make_objective({name: {}})
    embedded = make_step(make_objective(), mixed_batch()).embedded
    if only(regularized)[1].perturb(embedded, torch.Generator()) is not embedded:
        pytest.skip("has an implicit part")
    batch, moment = mixed_batch(), Moment(3, 0, 0, 0)

    before = plain(batch, moment)
    after = regularized(batch, moment)

    assert torch.equal(after.logs["logloss"], before.logs["logloss"])
    assert same_weights(regularized.backbone, plain.backbone)  # running statistics too


def test_view_passes_leave_running_statistics_alone(name: str) -> None:
    objective = make_objective({name: {}})
    step = make_step(objective, mixed_batch())
    norms = [m for m in objective.backbone.modules() if isinstance(m, BatchNorm)]
    before = [(norm.mean.clone(), norm.var.clone()) for norm in norms]
    _, regularizer = only(objective)

    regularizer.loss(step)

    assert norms
    for norm, (mean, var) in zip(norms, before, strict=True):
        assert torch.equal(norm.mean, mean)
        assert torch.equal(norm.var, var)


def test_logs_are_detached_scalars(name: str) -> None:
    objective = make_objective({name: {}})
    for number in range(4):
        losses = objective(mixed_batch(), Moment(0, 0, number, number), diagnose=True)

    expected = {"logloss", name} if has_loss(name) else {"logloss"}
    assert {key.partition("/")[0] for key in losses.logs} == expected
    for key, value in losses.logs.items():
        assert value.shape == (), key
        assert not value.requires_grad, key
        assert value.isfinite(), key


def test_a_negative_weight_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"weight: .*got -1"):
        build(REGULARIZERS[name].Options, {"weight": -1})


def test_the_view_has_its_own_dropout_and_the_same_parameters() -> None:
    objective = make_objective({"icl": {}})
    step = make_step(objective, mixed_batch())

    view = step.encode_view(step.embedded)
    again = step.encode_view(step.embedded)

    assert torch.equal(view, again)
    assert not torch.equal(view, step.latent)
    other = dataclasses.replace(step, view_seed=8).encode_view(step.embedded)
    assert not torch.equal(view, other)


def test_views_are_made_of_what_the_primary_pass_looked_up() -> None:
    """Unknown ids drawn by id dropout are the same in both views: only one look-up."""
    objective = make_objective({"icl": {"view": {"mask_rate": 0.0, "bit_rate": 0.0}}})
    step = make_step(objective, mixed_batch())
    seen: list[Embedded] = []
    backbone = step.backbone
    original = backbone.encode

    def watched(embedded: Embedded) -> Tensor:
        seen.append(embedded)
        return original(embedded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "encode", watched)
        only(objective)[1].loss(step)

    assert seen == [step.embedded]
