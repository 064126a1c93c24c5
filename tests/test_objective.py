"""The loss of a step: logloss plus weighted terms, each pass on a stream of its own."""

import dataclasses
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from aqcl.backbones.din import DIN
from aqcl.batch import Batch, Embedded, LossTerm
from aqcl.contracts import Backbone, Facts, Step
from aqcl.errors import ConfigError
from aqcl.objective import Losses, Moment, Objective
from tests.model_inputs import make_backbone, make_batch, make_facts, predict

NOW = Moment(seed=3, epoch=1, step=2, number=9)


class Spy(nn.Module):
    """A regularizer that draws numbers, remembers what it sees, and has a simple loss."""

    Options: ClassVar[type] = object

    def __init__(self, weight: float = 0.5, has_loss: bool = True) -> None:
        super().__init__()
        self.weight = weight
        self.has_loss = has_loss
        self.own = nn.Parameter(torch.ones(3))
        self.draws: list[Tensor] = []
        self.steps: list[Step] = []

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        return cls()

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        self.draws.append(torch.rand(4, generator=generator))
        return embedded

    def loss(self, step: Step) -> LossTerm | None:
        self.steps.append(step)
        self.draws.append(torch.rand(4, generator=step.generator))
        torch.rand(5)  # as dropout in a tower of its own would
        if not self.has_loss:
            return None
        value = step.latent.square().mean()
        return LossTerm(value, self.own.sum(), {"value": value.detach()})


def make_objective(**regularizers: nn.Module) -> Objective:
    module, _ = make_backbone(DIN, make_facts(), embedding_dim=4, embedding_std=0.5)
    return Objective(module, regularizers)


def total(losses: Losses) -> float:
    return float(losses.total.detach())


class Column(DIN):
    """Forgets to squeeze."""

    def predict(self, latent, embedded):  # type: ignore[no-untyped-def]
        return super().predict(latent, embedded)[:, None]


class Wide(DIN):
    """Has latents wider than it says."""

    def encode(self, embedded):  # type: ignore[no-untyped-def]
        latent = super().encode(embedded)
        return torch.cat([latent, latent[:, :1]], dim=1)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (Column, r"Column\.predict: .* \({n},\), got \({n}, 1\)"),
        (Wide, r"Wide\.encode: .* got \({n}, "),
    ],
)
def test_a_backbone_of_other_shapes_than_promised_is_told(broken: type[DIN], told: str) -> None:
    batch = make_batch()
    module, _ = make_backbone(broken, make_facts(), embedding_dim=4)

    with pytest.raises(ConfigError, match=told.replace("{n}", str(len(batch.label)))):
        Objective(module, {})(batch, NOW)


def test_a_term_of_a_value_trains_the_model_alone_and_logs_its_parts() -> None:
    part = torch.tensor(2.0, requires_grad=True)
    value = 3 * part

    term = LossTerm.of(value, part=part)

    assert term.value is value
    assert float(term.own) == 0.0
    assert not term.own.requires_grad
    assert {key: float(number) for key, number in term.logs.items()} == {"value": 6.0, "part": 2.0}
    assert not any(number.requires_grad for number in term.logs.values())


def test_without_regularizers_the_loss_is_the_mean_logloss() -> None:
    objective, batch = make_objective().eval(), make_batch()
    assert isinstance(objective.backbone, DIN)

    losses = objective(batch, NOW)

    expected = F.binary_cross_entropy_with_logits(predict(objective.backbone, batch), batch.label)
    torch.testing.assert_close(losses.total, expected)
    assert losses.logs.keys() == {"logloss"}
    assert not losses.logs["logloss"].requires_grad


def test_terms_are_weighted_and_own_losses_are_not() -> None:
    first, second = Spy(0.5), Spy(2.0)
    objective = make_objective(first=first, second=second)

    losses = objective(make_batch(), NOW)

    logs = {key: float(value) for key, value in losses.logs.items()}
    expected = logs["logloss"] + 0.5 * logs["first/value"] + 2 * logs["second/value"] + 3 + 3
    assert total(losses) == pytest.approx(expected)
    losses.total.backward()
    assert first.own.grad is not None
    assert first.own.grad.tolist() == [1.0, 1.0, 1.0]


def test_a_regularizer_of_weight_0_is_not_called() -> None:
    spy = Spy(0.0)

    losses = make_objective(spy=spy)(make_batch(), NOW)

    assert spy.steps == []
    assert spy.draws == []
    assert losses.logs.keys() == {"logloss"}


def test_a_regularizer_may_have_no_loss() -> None:
    losses = make_objective(spy=Spy(has_loss=False))(make_batch(), NOW)

    assert total(losses) == float(losses.logs["logloss"])


def test_a_step_shows_the_primary_pass() -> None:
    spy, batch = Spy(), make_batch()
    objective = make_objective(spy=spy)

    losses = objective(batch, NOW, diagnose=True)

    (step,) = spy.steps
    assert isinstance(step.backbone, DIN)
    assert step.backbone is objective.backbone
    assert step.batch is batch
    assert step.number == 9
    assert step.diagnose
    assert step.embedded.scores is not None
    expected = F.binary_cross_entropy_with_logits(step.logit, batch.label)
    torch.testing.assert_close(losses.logs["logloss"], expected.detach())
    torch.testing.assert_close(step.backbone.predict(step.latent, step.embedded), step.logit)


def test_what_a_regularizer_perturbs_is_what_is_encoded() -> None:
    class NoUser(Spy):
        def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
            return dataclasses.replace(embedded, user=torch.zeros_like(embedded.user))

    spy = NoUser(has_loss=False)
    objective = make_objective(spy=spy).eval()

    objective(make_batch(), NOW)

    (step,) = spy.steps
    assert not step.embedded.user.any()
    assert torch.equal(step.backbone.encode(step.embedded), step.latent)


def test_every_moment_has_streams_of_its_own() -> None:
    def draws(**changes: Any) -> list[list[float]]:
        spy = Spy()
        make_objective(spy=spy)(make_batch(), dataclasses.replace(NOW, **changes))
        return [draw.tolist() for draw in spy.draws]

    before = draws()

    assert draws() == before
    assert draws(number=100) == before
    for changes in ({"seed": 4}, {"epoch": 2}, {"step": 3}):
        assert all(a != b for a, b in zip(draws(**changes), before, strict=True))
    assert before[0] != before[1]


def test_a_regularizer_shifts_neither_the_primary_pass_nor_the_others() -> None:
    def logloss_and_draws(*names: str) -> tuple[float, list[list[float]]]:
        spy = Spy()
        parts = {name: spy if name == "spy" else Spy() for name in names}
        losses = make_objective(**parts)(make_batch(), NOW)
        return float(losses.logs["logloss"]), [draw.tolist() for draw in spy.draws]

    plain = float(make_objective()(make_batch(), NOW).logs["logloss"])
    alone = logloss_and_draws("spy")

    assert alone[0] == plain
    assert logloss_and_draws("spy", "other", "third") == alone
    assert logloss_and_draws("other", "third", "spy") == alone


def test_the_global_generator_need_not_be_in_any_state() -> None:
    objective = make_objective()

    torch.manual_seed(0)
    first = objective(make_batch(), NOW)
    torch.manual_seed(1)

    assert total(objective(make_batch(), NOW)) == total(first)


def test_names_may_be_import_paths() -> None:
    objective = Objective(make_objective().backbone, {"my_package.losses:Spy": Spy()})

    losses = objective(make_batch(), NOW)

    assert "my_package.losses:Spy/value" in losses.logs
    assert {key.partition(".")[0] for key in objective.state_dict()} == {"backbone", "regularizers"}


def test_the_batch_may_be_any_labelled_batch() -> None:
    batch: Batch = make_batch(lengths=(0,))

    assert make_objective(spy=Spy())(batch, NOW).total.isfinite()
