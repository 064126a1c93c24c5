"""The AQCL loss as a module: gradient rules, warm-up, codebook, diagnostics."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from aqcl import contrastive
from aqcl.activity import check_activity
from aqcl.batch import LossTerm
from aqcl.codebook import diagnostics
from aqcl.config import build
from aqcl.errors import ConfigError
from aqcl.regularizers.aqcl import AQCL, AQCLOptions
from tests.model_inputs import MEAN_ACTIVITY, small_options


def make_aqcl(**changes: Any) -> AQCL:
    torch.manual_seed(0)
    return AQCL(7, MEAN_ACTIVITY, small_options(AQCL, **{"warmup_steps": 0} | changes))


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


def test_a_collapse_is_seen_where_the_balanced_assignment_hides_it() -> None:
    """All latents lie at the first codeword; balancing gives them to all codewords alike."""
    module = make_aqcl(n_codewords=16, dim=8)
    codebook = contrastive.unit(module.codebook.detach())
    z = codebook[0] + 1e-3 * torch.randn(400, 8, generator=torch.Generator().manual_seed(0))

    codes = module._assign(contrastive.unit(z) @ codebook.T)
    found = diagnostics(z, z, codebook, codes, module.usage, 5)

    assert found["nearest_perplexity"] == 1
    assert found["perplexity"] > 15
    assert found["batch_perplexity"] > 8
    assert found["dead_codewords"] == 0


@pytest.mark.parametrize(("n_samples", "expected"), [(16, 16), (48, 16), (4, 4)])
def test_samples_spread_over_codewords_count_up_to_the_smaller_number(
    n_samples: int, expected: int
) -> None:
    module = make_aqcl(n_codewords=16, dim=8)
    codebook = contrastive.unit(module.codebook.detach())
    codes = torch.arange(n_samples) % 16

    found = diagnostics(codebook[codes], codebook[codes], codebook, codes, module.usage, 5)

    assert found["nearest_perplexity"].item() == pytest.approx(expected)


@pytest.mark.parametrize("diagnose", [True, False])
def test_diagnostics_come_when_they_are_asked_for(diagnose: bool) -> None:
    module = make_aqcl()

    logs = module(*latents(), diagnose=diagnose).logs

    costly = {
        "view_similarity",
        "interest_similarity",
        "uniformity",
        "nearest_perplexity",
        "perplexity",
        "batch_perplexity",
        "dead_codewords",
    }
    assert logs.keys() == {"value", "codebook"} | (costly if diagnose else set())


@pytest.mark.parametrize("n_steps", [2, 6])
@pytest.mark.parametrize("codebook", ["gradient", "ema"])
def test_evaluation_learns_and_counts_nothing(codebook: str, n_steps: int) -> None:
    module = make_aqcl(codebook=codebook, warmup_steps=4, n_codewords=8, top_k=2)
    trained(module, n_steps)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module.eval()

    with torch.no_grad():
        seen = [module(*latents(50)).value for _ in range(2)]

    assert seen[0] == seen[1]
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    module.train()
    assert torch.isclose(module(*latents(50)).value, seen[0])


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


def test_a_constant_alpha_is_the_same_for_everybody() -> None:
    aux = AQCL(8, 5.0, AQCLOptions(constant_alpha=0.3))
    torch.testing.assert_close(aux.alpha(torch.tensor([0.0, 9.0])), torch.full((2,), 0.3))


@pytest.mark.parametrize("scaled", [-1.0, float("nan")])
def test_an_activity_that_counts_nothing_is_refused(scaled: float) -> None:
    """Such as a standardised one, under which alpha is above 1 or not a number."""
    latent, view, activity = latents()
    module = make_aqcl(warmup_steps=5)
    module(latent, view, activity)
    with pytest.raises(ConfigError, match=r"activity: expected numbers of clicks, 0 or more, got"):
        module(latent, view, activity * scaled)


def test_shapes_that_do_not_fit_are_refused() -> None:
    latent, view, activity = latents()
    with pytest.raises(ConfigError, match=r"view: expected .*\(40, 7\), got \(39, 7\)"):
        contrastive.check_views(latent, view[1:], 7)
    for no_latent in (latent[:0], latent[:, 1:], latent[:, None]):
        with pytest.raises(ConfigError, match=r"latent: expected shape \(B, 7\) .*, got \("):
            contrastive.check_views(no_latent, no_latent, 7)
    for wrong in (activity[:, None], activity[:1], activity[1:]):
        with pytest.raises(ConfigError, match=r"activity: expected shape \(40,\), got"):
            check_activity(wrong, 40)


@pytest.mark.parametrize("mean_activity", [0.0, -1.0, math.inf, math.nan])
def test_a_mean_activity_that_is_none_is_refused(mean_activity: float) -> None:
    with pytest.raises(ConfigError, match="mean_activity: expected the mean number of"):
        AQCL(7, mean_activity)


@pytest.mark.parametrize("n_samples", [8, 40])
def test_latents_of_half_precision_serve_outside_of_autocast(n_samples: int) -> None:
    latent, view, activity = (given[:n_samples] for given in latents())
    module = make_aqcl(warmup_steps=1)
    rounded = [given.detach().bfloat16() for given in (latent, view)]
    alike = copy.deepcopy(module)
    for _ in range(3):
        half = module(*rounded, activity)
        whole = alike(*(given.float() for given in rounded), activity)
        assert torch.equal(half.value, whole.value)
        assert torch.equal(half.own, whole.own)
