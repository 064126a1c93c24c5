"""PCL: clustering, concentrations and the loss against slow NumPy; when clusters are made."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Generator, Tensor

from aqcl.batch import LossTerm
from aqcl.config import build
from aqcl.contrastive import unit
from aqcl.errors import ConfigError
from aqcl.regularizers.pcl import (
    PCL,
    PCLOptions,
    concentrations,
    prototype_loss,
    spherical_k_means,
)
from tests.golden import reference
from tests.model_inputs import small_options

Array = npt.NDArray[np.float64]


def make_pcl(**changes: Any) -> PCL:
    torch.manual_seed(0)
    small = {
        "warmup_steps": 0,
        "granularities": [3, 5],
        "buffer_size": 90,
        "refresh_steps": 4,
    }
    return PCL(7, small_options(PCL, **small | changes))


def latents(seed: int = 0, n_samples: int = 40) -> tuple[Tensor, Tensor, Generator]:
    random = torch.Generator().manual_seed(seed)
    latent = torch.randn(n_samples, 7, generator=random, requires_grad=True)
    view = (latent.detach() + 0.3 * torch.randn(n_samples, 7, generator=random)).requires_grad_()
    return latent, view, random


def blobs(n_points: int = 60, spread: float = 0.2) -> Tensor:
    """Unit vectors around four directions."""
    random = torch.Generator().manual_seed(0)
    centres = torch.eye(4, dtype=torch.float64)[torch.arange(n_points) % 4]
    noise = torch.randn(n_points, 4, generator=random, dtype=torch.float64)
    return unit(centres + spread * noise)


def slow_k_means(points: Array, start: Array, iterations: int) -> tuple[Array, list[int]]:
    centres = start.copy()

    def nearest(point: Array) -> int:
        return max(range(len(centres)), key=lambda k: float(point @ centres[k]))

    for _ in range(iterations):
        codes = [nearest(point) for point in points]
        for k in range(len(centres)):
            own = [point for point, code in zip(points, codes, strict=True) if code == k]
            if own:
                centre = np.sum(own, axis=0)
                centres[k] = centre / math.sqrt(centre @ centre)
    return centres, [nearest(point) for point in points]


def slow_concentrations(points: Array, centres: Array, codes: list[int], t: float) -> Array:
    """`run_kmeans` of salesforce/PCL from `Dcluster` on."""
    density = np.zeros(len(centres))
    sizes = np.zeros(len(centres))
    for k, centre in enumerate(centres):
        own = [p for p, code in zip(points, codes, strict=True) if code == k]
        sizes[k] = len(own)
        if len(own) > 1:
            distances = [math.sqrt(((p - centre) ** 2).sum()) for p in own]
            density[k] = sum(distances) / len(own) / math.log(len(own) + 10)
    density[sizes <= 1] = density.max()
    density = density.clip(np.percentile(density, 10), np.percentile(density, 90))
    scaled: Array = t * density / density.mean()
    return scaled


def slow_prototype_loss(z: Array, prototypes: Array, phi: Array) -> list[float]:
    """The second term of ProtoNCE, with the nearest prototype as the positive."""
    losses = []
    for one in z:
        cosines = [reference.sim(one, c) for c in prototypes]
        own = int(np.argmax(cosines))
        total = sum(math.exp(s / p) for s, p in zip(cosines, phi, strict=True))
        losses.append(-math.log(math.exp(cosines[own] / phi[own]) / total))
    return losses


@pytest.mark.parametrize("iterations", [1, 2, 10])
def test_k_means_equals_slow_loops(iterations: int) -> None:
    points = blobs()
    start = torch.cat([points[[0, 1, 4]], -points[:1]])  # one that nothing is nearest to

    centres, codes = spherical_k_means(points, start, iterations=iterations)

    expected, expected_codes = slow_k_means(points.numpy(), start.numpy(), iterations)
    np.testing.assert_allclose(centres, expected, atol=1e-12)
    assert codes.tolist() == expected_codes


def test_k_means_finds_clusters() -> None:
    points = blobs(spread=0.05)

    centres, codes = spherical_k_means(points, points[:4], iterations=10)

    assert codes.tolist() == [n % 4 for n in range(60)]
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(4, dtype=torch.float64))


def test_concentrations_equal_slow_loops() -> None:
    points = blobs()
    start = torch.cat([points[:9], -points[:1]])
    centres, codes = spherical_k_means(points, start, iterations=3)
    assert torch.bincount(codes, minlength=10).min() == 0

    phi = concentrations(points, centres, codes, temperature=0.2)

    expected = slow_concentrations(points.numpy(), centres.numpy(), codes.tolist(), 0.2)
    np.testing.assert_allclose(phi, expected, rtol=1e-9)
    assert float(phi.mean()) == pytest.approx(0.2)


def test_clusters_of_equal_points_have_a_concentration() -> None:
    points = torch.eye(3)[torch.arange(12) % 3]

    phi = concentrations(points, torch.eye(3), points.argmax(1), temperature=0.1)

    torch.testing.assert_close(phi, torch.full((3,), 0.1))
    blurred = torch.cat([points, unit(torch.eye(3)[:1] + 0.3)])
    phi = concentrations(blurred, torch.eye(3), blurred.argmax(1), temperature=0.1)
    assert (phi >= 0.01).all()


def test_the_prototype_term_equals_slow_loops() -> None:
    random = torch.Generator().manual_seed(0)
    z = torch.randn(9, 4, generator=random, dtype=torch.float64)
    prototypes, phi = unit(z[:5] + 1.0), torch.linspace(0.05, 0.5, 5, dtype=torch.float64)

    losses = prototype_loss(z, prototypes, phi)

    expected = slow_prototype_loss(z.numpy(), prototypes.numpy(), phi.numpy())
    np.testing.assert_allclose(losses, expected, atol=1e-9)


def test_the_value_is_instances_plus_the_mean_over_granularities() -> None:
    module = make_pcl()
    latent, view, generator = latents()

    term = module(latent, view, generator)

    z, z_view = (module.projector(x).detach().double().numpy() for x in (latent, view))
    instances = reference.info_nce(z, z_view, 0.1).mean()
    clusters = [
        np.mean(slow_prototype_loss(z, c.double().numpy(), phi.double().numpy()))
        for c, phi in module.clusterings()
    ]
    assert [len(c) for c, _ in module.clusterings()] == [3, 5]
    assert float(term.logs["instances"]) == pytest.approx(instances, rel=1e-5)
    assert float(term.value.detach()) == pytest.approx(instances + np.mean(clusters), rel=1e-5)
    assert float(term.own) == 0


def test_only_instances_count_during_the_warm_up() -> None:
    module = make_pcl(warmup_steps=2)
    for seed in range(3):
        term = module(*latents(seed))

        assert (float(term.logs["instances"]) == float(term.logs["value"])) == (seed < 2)
        assert bool(module.concentration.any()) == (seed == 2)


def test_clusters_are_made_anew_every_few_steps_of_the_latest_latents() -> None:
    module = make_pcl(warmup_steps=1)
    changed = []
    for seed in range(10):
        before = module.prototypes.clone()
        module(*latents(seed))
        changed.append(not torch.equal(module.prototypes, before))

    assert [number for number, one in enumerate(changed) if one] == [1, 5, 9]
    latest = torch.cat([latents(seed)[0] for seed in (7, 8, 9)])[-90:]
    torch.testing.assert_close(module.recent, unit(module.projector(latest)).detach())


def test_evaluation_changes_nothing() -> None:
    module = make_pcl(warmup_steps=0)
    module(*latents(0))
    module.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}

    for seed in range(1, 6):  # a clustering would be due among them
        module(*latents(seed))

    for name, now in module.state_dict().items():
        torch.testing.assert_close(now, before[name], rtol=0, atol=0)


def test_a_clustering_follows_from_the_generator() -> None:
    first, again, other = make_pcl(), make_pcl(), make_pcl()
    latent, view, _ = latents()
    for module, seed in ((first, 0), (again, 0), (other, 1)):
        module(latent, view, Generator().manual_seed(seed))

    assert torch.equal(first.prototypes, again.prototypes)
    assert not torch.equal(first.prototypes, other.prototypes)


def test_fewer_latents_than_clusters_give_fewer_clusters() -> None:
    module = make_pcl()

    term = module(*latents(0, 2))

    assert [len(c) for c, _ in module.clusterings()] == [2, 2]
    assert term.value.isfinite()


def test_a_resumed_module_goes_on_alike() -> None:
    module, other = make_pcl(warmup_steps=1), make_pcl(warmup_steps=1)
    for seed in range(3):
        module(*latents(seed))
    other.load_state_dict(module.state_dict())

    for seed in range(3, 8):
        assert torch.equal(module(*latents(seed)).value, other(*latents(seed)).value)


def test_latents_learn_and_clusters_do_not() -> None:
    module = make_pcl()
    latent, view, generator = latents()

    term: LossTerm = module(latent, view, generator)
    term.value.backward()

    for tensor in (latent, view, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.any()
    assert not module.prototypes.requires_grad
    assert not module.concentration.requires_grad


def test_the_empty_batch_costs_nothing() -> None:
    module = make_pcl()

    value = module(*latents(0, 0)).value

    assert float(value.detach()) == 0
    assert value.requires_grad
    assert module(*latents()).value.isfinite()


def test_more_clusters_than_latents_are_refused() -> None:
    with pytest.raises(ConfigError, match="granularities: 256 clusters cannot be made of buffer"):
        build(PCLOptions, {"buffer_size": 100})
