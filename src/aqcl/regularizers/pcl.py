"""PCL: a sample must find its view, and its cluster at several levels of detail."""

from dataclasses import field
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from aqcl.batch import Embedded, LossTerm
from aqcl.codebook import filled, push
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step
from aqcl.contrastive import info_nce, similarities, unit
from aqcl.errors import ConfigError
from aqcl.projector import Projector
from aqcl.views import ViewOptions, augment

SIZE_OFFSET = 10.0
"""Alpha of the concentration: keeps small clusters from looking loose; the authors' value."""
QUANTILES = (0.1, 0.9)
"""Concentrations are clipped to these quantiles, as the authors' code does."""
CONCENTRATION_FLOOR = 0.1
"""Smallest concentration as a part of the temperature; equal latents would have none."""


@settings
class PCLOptions:
    """Options of the regularizer `pcl`."""

    weight: Annotated[float, Bounds(ge=0)] = 0.05
    """Coefficient of the loss."""
    temperature: Annotated[float, Bounds(gt=0)] = 0.1
    """Temperature between instances, and mean of the concentrations of clusters."""
    granularities: Annotated[tuple[Annotated[int, Bounds(ge=1)], ...], Bounds(min_length=1)] = (
        64,
        128,
        256,
    )
    """How many clusters each clustering makes; fewer where fewer latents are stored."""
    buffer_size: Annotated[int, Bounds(ge=1)] = 4096
    """How many of the latest latents are stored and clustered."""
    refresh_steps: Annotated[int, Bounds(ge=1)] = 100
    """Steps between two clusterings."""
    cluster_iterations: Annotated[int, Bounds(ge=1)] = 10
    """Iterations of k-means; the authors have 20."""
    warmup_steps: Annotated[int, Bounds(ge=0)] = 100
    """Steps of pure instance contrast before the first clustering."""
    dim: Annotated[int, Bounds(ge=1)] = 64
    """Dimension in which samples and clusters are compared."""
    hidden_dim: Annotated[int, Bounds(ge=1)] = 64
    """Width of the projector's hidden layers."""
    view: ViewOptions = field(default_factory=ViewOptions)
    """How the second view is made."""

    def __post_init__(self) -> None:
        if max(self.granularities) > self.buffer_size:
            raise ConfigError(
                f"granularities: {max(self.granularities)} clusters cannot be made of "
                f"buffer_size = {self.buffer_size} latents; make the buffer larger or ask for less"
            )


class PCL(nn.Module):
    """Prototypical contrast: instance contrast plus the mean of one cluster term per granularity.

    Reference: arXiv 2005.04966, ProtoNCE; salesforce/PCL, main_pcl.py and pcl/builder.py.
    """

    Options: ClassVar[type] = PCLOptions

    def __init__(self, latent_dim: int, options: PCLOptions | None = None) -> None:
        super().__init__()
        self.options = options or PCLOptions()
        self.weight = self.options.weight
        dim, n_prototypes = self.options.dim, sum(self.options.granularities)
        self.projector = Projector(latent_dim, self.options.hidden_dim, dim)
        self.steps: Tensor
        self.recent: Tensor
        self.prototypes: Tensor
        self.concentration: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # NOTE[DIFF]: PCL clusters all samples once an epoch by k-means on features of a momentum
        # encoder; here the latest latents of the encoder itself are clustered every
        # `refresh_steps`, by spherical k-means from one random start.
        self.register_buffer("recent", torch.zeros(self.options.buffer_size, dim))
        self.register_buffer("prototypes", torch.zeros(n_prototypes, dim))
        # 0 where there is no cluster.
        self.register_buffer("concentration", torch.zeros(n_prototypes))

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, PCLOptions)
        return cls(backbone.latent_dim, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        view = augment(step.embedded, self.options.view, step.generator)
        term: LossTerm = self(step.latent, step.encode_view(view), step.generator)
        return term

    def forward(
        self, latent: Float[Tensor, "B D"], view: Float[Tensor, "B D"], generator: Generator
    ) -> LossTerm:
        """The loss of latents and the latents of their views; needs no other part of aqcl.

        In evaluation mode nothing is counted, stored or clustered.

        Args:
            latent: h of the samples.
            view: h of their augmented views.
            generator: draws where a clustering starts.
        """
        z, z_view = self.projector(torch.cat([latent, view])).chunk(2)
        options, since_warm_up = self.options, int(self.steps) - self.options.warmup_steps
        if self.training:
            self.steps += 1
            push(self.recent, unit(z.detach()))
            if since_warm_up >= 0 and since_warm_up % options.refresh_steps == 0:
                self._cluster(generator)
        if len(z) == 0:
            return LossTerm.of(z.sum())
        # NOTE[DIFF]: negatives are the other views of the batch, not a queue.
        instances = info_nce(z, z_view, temperature=options.temperature).mean()
        terms = [
            prototype_loss(z, prototypes, concentration).mean()
            for prototypes, concentration in self.clusterings()
            if len(prototypes)
        ]
        value = instances + torch.stack(terms).mean() if terms else instances
        return LossTerm.of(value, instances=instances)

    def clusterings(self) -> list[tuple[Tensor, Tensor]]:
        """Prototypes and concentrations of each granularity; empty before the first clustering."""
        sizes = self.options.granularities
        pairs = zip(self.prototypes.split(sizes), self.concentration.split(sizes), strict=True)
        return [(prototypes[phi > 0], phi[phi > 0]) for prototypes, phi in pairs]

    @torch.no_grad()
    def _cluster(self, generator: Generator) -> None:
        stored = filled(self.recent)
        sizes, iterations = self.options.granularities, self.options.cluster_iterations
        self.concentration.zero_()
        pairs = zip(self.prototypes.split(sizes), self.concentration.split(sizes), strict=True)
        for prototypes, concentration in pairs:
            drawn = torch.randperm(len(stored), generator=generator, device=stored.device)
            start = stored[drawn[: len(prototypes)]]
            if len(start) == 0:
                continue
            found, codes = spherical_k_means(stored, start, iterations=iterations)
            prototypes[: len(found)] = found
            concentration[: len(found)] = concentrations(
                stored, found, codes, temperature=self.options.temperature
            )


def prototype_loss(
    z: Float[Tensor, "B D"], prototypes: Float[Tensor, "K D"], concentration: Float[Tensor, " K"]
) -> Float[Tensor, " B"]:
    """Cross-entropy that draws each sample to its nearest prototype and from the others.

    Args:
        z: projected latents.
        prototypes: centres of the clusters, of length one.
        concentration: phi, the temperature of each cluster.

    Reference: arXiv 2005.04966, ProtoNCE, second term; `MoCo.forward` of the authors' code.
    """
    # NOTE[DIFF]: all other prototypes are negatives, none is sampled; a sample belongs to the
    # prototype that is nearest now, not to that of its cluster at the last clustering.
    similarity = similarities(unit(z), prototypes)
    return F.cross_entropy(similarity / concentration, similarity.argmax(1), reduction="none")


@torch.no_grad()
def spherical_k_means(
    points: Float[Tensor, "N D"], start: Float[Tensor, "K D"], *, iterations: int
) -> tuple[Float[Tensor, "K D"], Int[Tensor, " N"]]:
    """Centres of length one, and the nearest centre of each point; points are unit vectors.

    A centre that no point is nearest to stays where it is.
    """
    centres = start
    codes = similarities(points, centres).argmax(1)
    for _ in range(iterations):
        sums = torch.zeros_like(centres).index_add(0, codes, points)
        filled = sums.square().sum(1, keepdim=True) > 0
        centres = torch.where(filled, unit(sums), centres)
        codes = similarities(points, centres).argmax(1)
    return centres, codes


@torch.no_grad()
def concentrations(
    points: Float[Tensor, "N D"],
    centres: Float[Tensor, "K D"],
    codes: Int[Tensor, " N"],
    *,
    temperature: float,
) -> Float[Tensor, " K"]:
    """Phi: mean distance of a cluster's n points to its centre, divided by log(n + 10).

    A cluster of one point or none counts as the loosest. Then all are clipped to the 10th and 90th
    percentile and scaled to have the temperature as their mean.

    Reference: arXiv 2005.04966, concentration estimation; `run_kmeans` of the authors' code.
    """
    distance = (points - centres[codes]).norm(dim=1)
    count = torch.bincount(codes, minlength=len(centres)).to(points.dtype)
    total = torch.zeros_like(count).index_add(0, codes, distance)
    phi = total / count.clamp(min=1.0) / (count + SIZE_OFFSET).log() * (count > 1)
    phi = torch.where(count > 1, phi, phi.max())
    low, high = torch.quantile(phi, phi.new_tensor(QUANTILES))
    phi = phi.clamp(min=low, max=high)
    # NOTE[DIFF]: with a floor, because clusters of equal latents would have the temperature 0.
    scaled = temperature * phi / phi.mean().clamp(min=torch.finfo(phi.dtype).tiny)
    scaled = torch.where(phi.mean() > 0, scaled, temperature)
    return scaled.clamp(min=CONCENTRATION_FLOOR * temperature)
