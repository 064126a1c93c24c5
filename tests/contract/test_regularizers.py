"""What every regularizer must do, and what the losses of the paper must do beside it."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from aqcl import contrastive
from aqcl.backbones.din import DIN
from aqcl.batch import Batch, Embedded, LossTerm
from aqcl.config import build
from aqcl.contracts import Regularizer, Step
from aqcl.errors import ConfigError
from aqcl.layers import BatchNorm
from aqcl.objective import Moment, Objective
from aqcl.regularizers import REGULARIZERS
from aqcl.regularizers.aqcl import AQCL, AQCLOptions
from tests.model_inputs import LENGTHS, make_backbone, make_batch, make_facts

SMALL: dict[str, dict[str, Any]] = {
    "aqcl": {"n_codewords": 6, "top_k": 2, "dim": 8, "hidden_dim": 8, "warmup_steps": 2},
    "icl": {"dim": 8, "hidden_dim": 8},
}
"""Options that make a regularizer small; defaults where it has no entry."""
DIN_OPTIONS = {"embedding_dim": 4, "embedding_std": 0.5, "attention_sizes": [6], "sizes": [8, 7]}
MIXED = (*LENGTHS, 2, 4, 1, 6, 0, 3, 3, 2, 1)
MEAN_ACTIVITY = 3.0


def make_objective(
    regularizers: Mapping[str, Mapping[str, Any]] | None = None, seed: int = 0
) -> Objective:
    """A DIN with regularizers, each with the same initial weights whatever stands beside it."""
    facts = make_facts()
    module, backbone = make_backbone(DIN, facts, seed, **DIN_OPTIONS)
    made: dict[str, nn.Module] = {}
    for name, changes in (regularizers or {}).items():
        torch.manual_seed(seed + 1)
        cls = REGULARIZERS[name]
        options: object = build(cls.Options, SMALL.get(name, {}) | dict(changes))
        regularizer = cls.create(facts, backbone, options)
        assert isinstance(regularizer, nn.Module)
        made[name] = regularizer
    return Objective(module, made)


def train(objective: Objective, n_steps: int, batch: Batch | None = None) -> list[dict[str, float]]:
    """A few steps of Adam; returns the logs of each, and `total`."""
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    history = []
    for number in range(n_steps):
        batch_now = batch if batch is not None else make_batch(lengths=MIXED, seed=number)
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
    assert isinstance(backbone, DIN)
    embedded = backbone.attend(backbone.embed(batch))
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


@pytest.fixture(params=REGULARIZERS)
def name(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


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


def test_ten_steps_on_one_batch_lower_its_loss(name: str) -> None:
    batch = make_batch(lengths=MIXED)
    warm = {"warmup_steps": 0} if name == "aqcl" else {}
    objective = make_objective({name: {"weight": 1.0, **warm}})
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    values = []
    for _ in range(11):  # the same view and dropout each time: a plain descent
        losses = objective(batch, Moment(3, 0, 0, 0))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        values.append(float(losses.logs[f"{name}/value"]))

    assert values[-1] < values[0] - 0.05


def test_gradients_reach_projector_and_backbone(name: str) -> None:
    objective = make_objective({name: {}})
    module, regularizer = only(objective)

    term = regularizer.loss(make_step(objective, make_batch(lengths=MIXED)))
    assert term is not None
    term.value.backward()

    for label, parameter in module.named_parameters():
        assert (parameter.grad is not None and parameter.grad.any()) or label == "codebook", label
    for label, parameter in objective.backbone.named_parameters():
        if not label.startswith("head."):
            assert parameter.grad is not None, label
            assert parameter.grad.any(), label


@pytest.mark.parametrize("lengths", [(3,), (0,), (0, 0, 0), LENGTHS], ids=str)
def test_small_and_empty_batches_are_finite(name: str, lengths: tuple[int, ...]) -> None:
    objective = make_objective({name: {}})
    batch = make_batch(lengths=lengths)

    logs = train(objective, 5, batch)

    for step in logs:
        assert math.isfinite(step["total"])
        assert math.isfinite(step[f"{name}/value"])
    assert all(value.isfinite().all() for value in objective.state_dict().values())


def test_a_step_repeats_bit_for_bit(name: str) -> None:
    first, again = make_objective({name: {}}), make_objective({name: {}})

    assert train(first, 5) == train(again, 5)
    assert same_weights(first, again)


def test_the_state_survives_the_disk(name: str, tmp_path: Path) -> None:
    objective, other = make_objective({name: {}}, 0), make_objective({name: {}}, 1)
    train(objective, 5)
    safetensors.torch.save_file(objective.state_dict(), tmp_path / "state")

    other.load_state_dict(safetensors.torch.load_file(tmp_path / "state"))

    assert same_weights(other, objective)
    assert train(other, 3) == train(objective, 3)


def test_the_primary_pass_of_the_first_step_is_that_of_the_plain_model(name: str) -> None:
    plain, regularized = make_objective(), make_objective({name: {}})
    batch, moment = make_batch(lengths=MIXED), Moment(3, 0, 0, 0)

    before = plain(batch, moment)
    after = regularized(batch, moment)

    assert torch.equal(after.logs["logloss"], before.logs["logloss"])
    assert same_weights(regularized.backbone, plain.backbone)  # running statistics too


def test_view_passes_leave_running_statistics_alone(name: str) -> None:
    objective = make_objective({name: {}})
    step = make_step(objective, make_batch(lengths=MIXED))
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
        losses = objective(make_batch(lengths=MIXED), Moment(0, 0, number, number), diagnose=True)

    assert {key.partition("/")[0] for key in losses.logs} == {"logloss", name}
    for key, value in losses.logs.items():
        assert value.shape == (), key
        assert not value.requires_grad, key
        assert value.isfinite(), key


def test_a_negative_weight_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"weight: .*got -1"):
        build(REGULARIZERS[name].Options, {"weight": -1})


def make_aqcl(**changes: Any) -> AQCL:
    torch.manual_seed(0)
    options = SMALL["aqcl"] | {"warmup_steps": 0} | changes
    return AQCL(7, MEAN_ACTIVITY, build(AQCLOptions, options))


def latents(seed: int = 0, n_samples: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, those of views, and activities."""
    random = torch.Generator().manual_seed(seed)
    latent = torch.randn(n_samples, 7, generator=random, requires_grad=True)
    view = (latent.detach() + 0.3 * torch.randn(n_samples, 7, generator=random)).requires_grad_()
    return latent, view, torch.arange(float(n_samples))


def trained(module: AQCL, n_steps: int = 20) -> LossTerm:
    """A few steps on latents that stay as they are; returns the last term."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for seed in range(n_steps):
        term: LossTerm = module(*latents(seed))
        optimizer.zero_grad()
        (term.value + term.own).backward()
        optimizer.step()
    return term


def gradient(loss: Tensor, wanted: Tensor) -> Tensor | None:
    found: Tensor | None = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)[
        0
    ]
    return found


@pytest.mark.parametrize("changes", [{}, {"denominator": "decoupled"}, {"symmetric": True}])
def test_the_contrast_does_not_train_the_codebook(changes: dict[str, Any]) -> None:
    module = make_aqcl(**changes)

    term = module(*latents())

    assert gradient(term.value, module.codebook) is None
    own = gradient(term.own, module.codebook)
    assert own is not None
    assert own.any()


def test_the_codebook_loss_trains_nothing_but_the_codebook() -> None:
    module = make_aqcl()
    latent, view, activity = latents()

    term = module(latent, view, activity)

    for parameter in module.projector.parameters():
        assert gradient(term.own, parameter) is None
    assert gradient(term.own, latent) is None
    assert gradient(term.own, view) is None
    assert gradient(term.value, latent) is not None
    assert gradient(term.value, view) is not None


def test_alpha_has_no_gradient() -> None:
    module = make_aqcl()
    latent, view, activity = latents()
    activity.requires_grad_()

    term = module(latent, view, activity)

    assert not module.alpha(activity).requires_grad
    assert gradient(term.value + term.own, activity) is None


def test_a_joint_codebook_is_trained_by_both() -> None:
    module = make_aqcl(joint_codebook=True)

    term = module(*latents())

    by_value = gradient(term.value, module.codebook)
    assert by_value is not None
    assert by_value.any()


@pytest.mark.parametrize("constant", [None, 0.3])
def test_the_value_is_the_pure_loss(constant: float | None) -> None:
    module = make_aqcl(w1=0.7, w2=1.3, constant_alpha=constant)
    latent, view, activity = latents()
    expected_alpha = torch.exp(-0.7 * (activity / MEAN_ACTIVITY) ** 1.3)
    if constant is not None:
        expected_alpha = torch.full_like(activity, constant)

    term = module(latent, view, activity)

    expected = contrastive.aqcl(
        module.projector(latent),
        module.projector(view),
        module.codebook,
        expected_alpha,
        top_k=2,
        instance_temperature=0.1,
        cluster_temperature=0.1,
    )
    torch.testing.assert_close(term.value, expected.mean())


def test_no_codeword_enters_the_loss_during_the_warm_up() -> None:
    module = make_aqcl(warmup_steps=3)
    before = module.codebook.detach().clone()
    for seed in range(3):
        latent, view, activity = latents(seed)
        term = module(latent, view, activity)

        z, z_view = module.projector(latent), module.projector(view)
        expected = contrastive.info_nce(z, z_view, temperature=0.1).mean()
        torch.testing.assert_close(term.value, expected)
        assert term.own.item() == 0
        (term.value + term.own).backward()
        assert module.codebook.grad is None
    torch.testing.assert_close(module.codebook.detach(), before)

    assert module(*latents(3)).own.item() > 0


def test_the_optimizer_gathers_no_state_of_the_codebook_during_the_warm_up() -> None:
    module = make_aqcl(warmup_steps=3)
    optimizer = torch.optim.Adam(module.parameters())
    for seed in range(4):
        assert module.codebook not in optimizer.state
        term = module(*latents(seed))
        optimizer.zero_grad()
        (term.value + term.own).backward()
        optimizer.step()

    assert module.codebook in optimizer.state


@pytest.mark.parametrize(("n_samples", "n_set"), [(40, 6), (1, 2)])
def test_the_codebook_is_set_from_stored_latents(n_samples: int, n_set: int) -> None:
    """After 2 steps of 1 sample there are 2 latents: the other codewords stay random."""
    module = make_aqcl(warmup_steps=2)
    before = module.codebook.detach().clone()
    seen = []
    for seed in range(2):
        latent, view, activity = latents(seed, n_samples)
        seen.append(contrastive.unit(module.projector(latent)).detach())
        module(latent, view, activity)

    module(*latents(2))

    closest = (module.codebook.detach() @ torch.cat(seen).T).amax(1)
    assert int((closest > 1 - 1e-6).sum()) == n_set
    assert len(torch.unique(module.codebook.detach(), dim=0)) == 6
    torch.testing.assert_close(module.codebook.detach()[n_set:], before[n_set:])


def test_codewords_have_length_one_in_every_step() -> None:
    module = make_aqcl()
    trained(module)
    module(*latents())

    torch.testing.assert_close(module.codebook.detach().norm(dim=1), torch.ones(6))


def test_every_codeword_is_used_and_the_codebook_learns() -> None:
    module = make_aqcl(n_codewords=8)

    first = module(*latents())
    last = trained(module, 60)

    assert last.own < first.own
    assert last.logs["dead_codewords"] == 0
    assert 6 < last.logs["perplexity"] <= 8 + 1e-4
    assert 1 <= last.logs["batch_perplexity"] <= 8 + 1e-4


def test_batches_smaller_than_the_codebook_are_balanced_over_time() -> None:
    module = make_aqcl(n_codewords=16)
    for seed in range(300):
        term = module(*latents(seed, n_samples=5))

    assert term.logs["dead_codewords"] == 0
    assert term.logs["perplexity"] > 12
    assert term.logs["batch_perplexity"] <= 5 + 1e-4


def test_dead_codewords_are_seen() -> None:
    """Codewords far from every latent, in batches too small to fill them all."""
    module = make_aqcl(n_codewords=16)
    module.usage[:4] = 1e-4

    term = module(*latents(n_samples=40))

    assert module.usage.sum().item() == pytest.approx(1.0, abs=0.3)
    assert 0 < term.logs["dead_codewords"] <= 4 / 16


@pytest.mark.parametrize("diagnose", [True, False])
def test_diagnostics_come_when_they_are_asked_for(diagnose: bool) -> None:
    module = make_aqcl()

    logs = module(*latents(), diagnose=diagnose).logs

    costly = {
        "view_similarity",
        "interest_similarity",
        "uniformity",
        "perplexity",
        "batch_perplexity",
        "dead_codewords",
    }
    assert logs.keys() == {"value", "codebook"} | (costly if diagnose else set())


def test_the_loss_stands_alone() -> None:
    """Three lines for a model and a loop of one's own, with the defaults."""
    aux = AQCL(latent_dim=7, mean_activity=6.9)

    term = aux(*latents())
    loss = 0.1 * term.value + term.own
    loss.backward()

    assert loss.isfinite()


@pytest.mark.parametrize(
    "key", ["instance_temperature", "cluster_temperature", "codebook_temperature", "w1", "w2"]
)
@pytest.mark.parametrize("value", [0.0, -0.1])
def test_temperatures_and_weights_are_above_0(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: .*greater than 0, got {value}"):
        build(AQCLOptions, {key: value})


def test_the_view_has_its_own_dropout_and_the_same_parameters() -> None:
    objective = make_objective({"icl": {}})
    step = make_step(objective, make_batch(lengths=MIXED))

    view = step.encode_view(step.embedded)
    again = step.encode_view(step.embedded)

    assert torch.equal(view, again)
    assert not torch.equal(view, step.latent)
    other = dataclasses.replace(step, view_seed=8).encode_view(step.embedded)
    assert not torch.equal(view, other)


def test_views_are_made_of_what_the_primary_pass_looked_up() -> None:
    """Unknown ids drawn by id dropout are the same in both views: only one look-up."""
    objective = make_objective({"icl": {"view": {"mask_rate": 0.0, "bit_rate": 0.0}}})
    step = make_step(objective, make_batch(lengths=MIXED))
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


def test_a_constant_alpha_is_the_same_for_everybody() -> None:
    aux = AQCL(8, 5.0, AQCLOptions(constant_alpha=0.3))
    torch.testing.assert_close(aux.alpha(torch.tensor([0.0, 9.0])), torch.full((2,), 0.3))
