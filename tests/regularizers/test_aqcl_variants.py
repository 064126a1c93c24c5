"""Options of AQCL beyond the paper: moving-average codebook, false negatives, readout."""

import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from aqcl import contrastive
from aqcl.batch import LossTerm
from aqcl.config import build
from aqcl.errors import ConfigError
from aqcl.regularizers.aqcl import AQCL, AQCLOptions
from tests.golden import reference
from tests.model_inputs import LENGTHS, MEAN_ACTIVITY, WITH_FIELDS, make_batch, small_options
from tests.objectives import make_objective, make_step, mixed_batch, same_weights, train

VARIANTS: dict[str, dict[str, Any]] = {
    "ema": {"codebook": "ema"},
    "user": {"false_negatives": "user"},
    "item": {"false_negatives": "item", "symmetric": True},
    "intent": {"false_negatives": "intent"},
    "blocks": {"block_size": 2},
    "readout": {"readout": True},
    "groups": {"alpha": "groups"},
    "spline": {"alpha": "spline"},
    "learned": {"learn_alpha": {"enabled": True}},
    "all": {"codebook": "ema", "false_negatives": "intent", "readout": True},
}
VARIANT = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())


def make_aqcl(**changes: Any) -> AQCL:
    torch.manual_seed(0)
    return AQCL(7, MEAN_ACTIVITY, small_options(AQCL, **{"warmup_steps": 0} | changes))


def latents(seed: int = 0, n_samples: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, those of views, and activities."""
    random = torch.Generator().manual_seed(seed)
    latent = torch.randn(n_samples, 7, generator=random, requires_grad=True)
    view = (latent.detach() + 0.3 * torch.randn(n_samples, 7, generator=random)).requires_grad_()
    return latent, view, torch.arange(float(n_samples))


@pytest.mark.parametrize("name", ["ema", "intent", "readout", "spline"])
@pytest.mark.parametrize("n_samples", [6, 40])
def test_a_module_of_half_precision_goes_on_after_the_warm_up(name: str, n_samples: int) -> None:
    """With fewer samples than the store has and with more."""
    aqcl = make_aqcl(**VARIANTS[name], warmup_steps=2).bfloat16()
    latent, view, activity = (given[:n_samples] for given in latents())
    for _ in range(4):
        term = aqcl(latent.bfloat16(), view.bfloat16(), activity)
        (term.value + term.own).backward()
    assert torch.isfinite(term.value)
    assert "dead_codewords" in term.logs


def test_groups_that_do_not_fit_are_refused() -> None:
    aqcl, z, users = make_aqcl(false_negatives="user"), torch.randn(40, 5), torch.arange(80) % 7
    for wrong in (users, users[:39], users[:40, None]):
        with pytest.raises(ConfigError, match=r"groups: expected shape \(40,\), got"):
            aqcl._false_negatives(z, wrong, settled=True)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("false_negatives", ["keep", "user"])
def test_blocks_are_batches_of_their_own(false_negatives: str, warm: bool) -> None:
    latent, view, activity = latents(n_samples=40)
    users = torch.arange(40) % 7
    given = {"false_negatives": false_negatives, "warmup_steps": 9 if warm else 0}
    whole, alone = make_aqcl(block_size=13, **given), make_aqcl(**given)
    runs = [slice(0, 10), slice(10, 20), slice(20, 30), slice(30, 40)]

    def value(aqcl: AQCL, rows: slice) -> Tensor:
        groups = None if false_negatives == "keep" else users[rows]
        aqcl.load_state_dict(state)
        term = aqcl(latent[rows], view[rows], activity[rows], groups=groups)
        assert isinstance(term, LossTerm)
        return term.value

    alone.steps += 1  # past the warm-up, whose last step sets the codebook from stored latents
    state = {name: tensor.clone() for name, tensor in alone.state_dict().items()}
    parts = torch.stack([value(alone, rows) for rows in runs])

    torch.testing.assert_close(value(whole, slice(0, 40)), parts.mean())


@VARIANT
@pytest.mark.parametrize("lengths", [(3,), (0,), (0, 0, 0), LENGTHS], ids=str)
def test_small_and_empty_batches_are_finite(
    changes: dict[str, Any], lengths: tuple[int, ...]
) -> None:
    objective = make_objective({"aqcl": changes})

    logs = train(objective, 5, make_batch(WITH_FIELDS, lengths))

    assert all(math.isfinite(step["total"]) for step in logs)
    assert all(math.isfinite(step["aqcl/value"]) for step in logs)
    assert all(value.isfinite().all() for value in objective.state_dict().values())


@VARIANT
def test_the_state_survives_the_disk(changes: dict[str, Any], tmp_path: Path) -> None:
    objective, other = (make_objective({"aqcl": changes}, seed) for seed in (0, 1))
    train(objective, 5)
    safetensors.torch.save_file(objective.state_dict(), tmp_path / "state")

    other.load_state_dict(safetensors.torch.load_file(tmp_path / "state"))

    assert same_weights(other, objective)
    assert train(other, 3) == train(objective, 3)


@pytest.mark.parametrize("codebook", [{"joint_codebook": True}, {"codebook": "ema"}], ids=str)
def test_two_batches_may_share_a_backward_pass(codebook: dict[str, Any]) -> None:
    together, apart = make_aqcl(**codebook), make_aqcl(**codebook)

    terms: list[LossTerm] = [together(*latents(seed)) for seed in range(2)]
    sum((term.value + term.own for term in terms), torch.zeros(())).backward()

    for seed in range(2):
        term = apart(*latents(seed))
        (term.value + term.own).backward()
    for ours, theirs in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@VARIANT
def test_a_variant_starts_with_the_weights_of_the_paper(changes: dict[str, Any]) -> None:
    plain, variant = make_aqcl().state_dict(), make_aqcl(**changes).state_dict()

    assert all(torch.equal(variant[key], value) for key, value in plain.items())
    extra = {
        "sums": changes.get("codebook"),
        "reading.weight": changes.get("readout"),
        "free_alpha": changes.get("learn_alpha"),
    }
    assert variant.keys() - plain.keys() == {key for key, wanted in extra.items() if wanted}
    assert not any(variant[key].any() for key in variant.keys() - plain.keys())


def test_a_moving_average_codebook_takes_no_gradient() -> None:
    module = make_aqcl(codebook="ema")

    term = module(*latents())
    (term.value + term.own).backward()

    assert term.own.item() == 0
    assert term.logs["codebook"] > 0
    assert not module.codebook.requires_grad
    assert module.codebook.grad is None
    assert all(p.grad is not None for p in module.projector.parameters())


def test_a_moving_average_codebook_is_spherical_k_means() -> None:
    module = make_aqcl(codebook="ema", codebook_decay=0.8)
    start, steps = module.codebook.detach().double().numpy(), []
    assign = module._assign

    def watched(similarity: Tensor) -> Tensor:
        codes = assign(similarity)
        steps.append((module.projector(latent).detach().double().numpy(), codes.tolist()))
        return codes

    module._assign = watched  # type: ignore[method-assign]
    for seed in range(4):
        latent, view, activity = latents(seed)
        module(latent, view, activity)

    expected, counts = reference.spherical_k_means(start, steps, 0.8)
    assert (counts > 0).all()
    torch.testing.assert_close(
        module.codebook.detach().double(), torch.tensor(expected), rtol=0, atol=1e-6
    )


def test_a_moving_average_codebook_stays_during_the_warm_up() -> None:
    module = make_aqcl(codebook="ema", warmup_steps=2)
    before = module.codebook.detach().clone()

    for seed in range(2):
        module(*latents(seed))

    torch.testing.assert_close(module.codebook.detach(), before)
    assert module.sums is not None
    assert not module.sums.any()


def test_a_moving_average_codebook_learns() -> None:
    module = make_aqcl(codebook="ema", codebook_decay=0.9)

    terms: list[LossTerm] = [module(*latents(seed % 3)) for seed in range(40)]

    assert terms[-1].logs["codebook"] < terms[0].logs["codebook"]
    assert terms[-1].logs["dead_codewords"] == 0
    torch.testing.assert_close(module.codebook.detach().norm(dim=1), torch.ones(6))


def test_a_joint_codebook_and_moving_averages_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"joint_codebook = true .* codebook = 'ema' .*leave one"):
        build(AQCLOptions, {"joint_codebook": True, "codebook": "ema"})


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("warm", [False, True])
def test_samples_of_the_same_group_are_no_negatives(symmetric: bool, warm: bool) -> None:
    module = make_aqcl(false_negatives="user", symmetric=symmetric, warmup_steps=9 if warm else 0)
    latent, view, activity = latents()
    groups = torch.arange(40) % 7
    z, z_view = (module.projector(x).detach().double() for x in (latent, view))

    value = module(latent, view, activity, groups=groups).value

    if warm:
        expected = reference.info_nce(z.numpy(), z_view.numpy(), 0.1, symmetric, groups.tolist())
    else:
        expected = reference.aqcl(
            z.numpy(),
            z_view.numpy(),
            module.codebook.detach().double().numpy(),
            module.alpha(activity).double().numpy(),
            top_k=2,
            instance_temperature=0.1,
            cluster_temperature=0.1,
            symmetric=symmetric,
            groups=groups.tolist(),
        )
    assert value.item() == pytest.approx(expected.mean(), abs=1e-5)


def test_an_intent_is_the_nearest_codeword_once_there_are_codewords() -> None:
    intent, kept = (make_aqcl(false_negatives=kind, warmup_steps=1) for kind in ("intent", "keep"))
    assert torch.equal(intent(*latents()).value, kept(*latents()).value)
    latent, view, activity = latents(1)

    value = intent(latent, view, activity).value

    z, z_view = (contrastive.unit(intent.projector(x)).detach() for x in (latent, view))
    book = intent.codebook.detach()
    nearest = [max(range(6), key=lambda t: float(row @ book[t])) for row in z]
    assert len(set(nearest)) > 2
    expected = contrastive.aqcl(
        z,
        z_view,
        book,
        intent.alpha(activity),
        top_k=2,
        instance_temperature=0.1,
        cluster_temperature=0.1,
        ignore=torch.tensor([[a == b for b in nearest] for a in nearest]),
    )
    torch.testing.assert_close(value, expected.mean())
    assert value < kept(latent, view, activity).value


@pytest.mark.parametrize("kind", ["user", "item"])
def test_groups_are_the_ids_of_the_batch(kind: str) -> None:
    objective = make_objective({"aqcl": {"false_negatives": kind, "warmup_steps": 0}})
    module, step = objective.regularizers[0], make_step(objective, mixed_batch())
    seen: list[Tensor] = []
    module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["groups"]), with_kwargs=True
    )
    assert isinstance(module, AQCL)

    module.loss(step)

    assert len(seen) == 1
    assert torch.equal(seen[0], getattr(step.batch, kind))


@pytest.mark.parametrize(
    ("kind", "given"), [("user", False), ("item", False), ("keep", True), ("intent", True)]
)
def test_groups_come_where_they_have_a_use_and_nowhere_else(kind: str, given: bool) -> None:
    groups = torch.zeros(40, dtype=torch.int64) if given else None

    with pytest.raises(ConfigError, match=rf"groups: .*'{kind}', and groups were .*given"):
        make_aqcl(false_negatives=kind)(*latents(), groups=groups)


@pytest.mark.parametrize("warm", [False, True])
def test_no_matrix_of_pairs_is_larger_than_a_block(
    monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    sizes: list[int] = []
    same_group = contrastive.same_group

    def watched(groups: Tensor) -> Tensor:
        sizes.append(len(groups))
        return same_group(groups)

    monkeypatch.setattr(contrastive, "same_group", watched)
    module = make_aqcl(block_size=13, false_negatives="user", warmup_steps=9 if warm else 0)

    module(*latents(n_samples=40), groups=torch.arange(40) % 7)

    assert sizes == [10, 10, 10, 10]


def test_the_default_makes_no_matrix_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(groups: Tensor) -> Tensor:
        raise AssertionError("a mask was made")

    monkeypatch.setattr(contrastive, "same_group", forbidden)

    assert make_aqcl()(*latents()).value.isfinite()


@pytest.mark.parametrize("constant", [None, 0.3])
def test_what_is_read_is_the_formula(constant: float | None) -> None:
    objective = make_objective(
        {"aqcl": {"readout": True, "warmup_steps": 1, "constant_alpha": constant}}
    )
    step, module = make_step(objective, mixed_batch()), objective.regularizers[0]
    assert isinstance(module, AQCL)
    assert module.reading is not None
    torch.nn.init.normal_(module.reading.weight)
    for done in range(2):
        assert module.steps == done
        assert not module.read(step.latent, step.embedded).any()
        module.loss(step)

    ours = module.read(step.latent, step.embedded)

    interests = reference.readout(
        module.projector(step.latent).detach().double().numpy(),
        module.codebook.detach().double().numpy(),
        module.alpha(step.batch.activity).double().numpy(),
        2,
        0.1,
    )
    expected = interests @ module.reading.weight.detach().double().numpy().T
    torch.testing.assert_close(ours.double(), torch.tensor(expected), rtol=0, atol=1e-5)


def test_the_readout_trains_the_projector_and_not_the_codebook() -> None:
    objective = make_objective({"aqcl": {"readout": True, "warmup_steps": 0}})
    train(objective, 3)
    step, module = make_step(objective, mixed_batch()), objective.regularizers[0]
    assert isinstance(module, AQCL)
    module.zero_grad()

    module.read(step.latent, step.embedded).square().sum().backward()

    assert module.reading is not None
    assert module.reading.weight.grad is not None
    assert module.codebook.grad is None
    grads = [p.grad for p in module.projector.parameters()]
    assert all(grad is not None and grad.any() for grad in grads)
