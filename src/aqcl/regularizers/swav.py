"""SwAV: from one view of a sample predict the cluster that its other view is assigned to."""

from dataclasses import field
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl.batch import Embedded, LossTerm
from aqcl.codebook import balanced, push
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step
from aqcl.contrastive import similarities, unit
from aqcl.projector import Projector
from aqcl.views import ViewOptions, augment


@settings
class SwAVOptions:
    """Options of the regularizer `swav`; temperature, epsilon, iterations are the authors'."""

    weight: Annotated[float, Bounds(ge=0)] = 0.05
    """Coefficient of the loss."""
    n_prototypes: Annotated[int, Bounds(ge=1)] = 128
    """T, the number of clusters."""
    temperature: Annotated[float, Bounds(gt=0)] = 0.1
    """Temperature of the predictions."""
    sinkhorn_epsilon: Annotated[float, Bounds(ge=0.03)] = 0.05
    """Weight of the entropy in the balanced assignment; 0.03 helps if the loss stays at ln T."""
    sinkhorn_iterations: Annotated[int, Bounds(ge=1)] = 3
    """Iterations of the balanced assignment."""
    warmup_steps: Annotated[int, Bounds(ge=0)] = 313
    """Steps in which the prototypes stay where they are and only the encoder learns."""
    dim: Annotated[int, Bounds(ge=1)] = 64
    """Dimension of z and of the prototypes."""
    hidden_dim: Annotated[int, Bounds(ge=1)] = 64
    """Width of the projector's hidden layers."""
    view: ViewOptions = field(default_factory=ViewOptions)
    """How the second view is made."""


class SwAV(nn.Module):
    """Swapped prediction of balanced soft codes; encoder and prototypes learn from it together.

    Reference: arXiv 2006.09882, section 3.1, equations 1 to 4; facebookresearch/swav,
    main_swav.py.
    """

    Options: ClassVar[type] = SwAVOptions

    def __init__(self, latent_dim: int, options: SwAVOptions | None = None) -> None:
        super().__init__()
        self.options = options or SwAVOptions()
        self.weight = self.options.weight
        size, dim = self.options.n_prototypes, self.options.dim
        self.projector = Projector(latent_dim, self.options.hidden_dim, dim)
        self.prototypes = nn.Parameter(unit(torch.randn(size, dim)))
        self.steps: Tensor
        self.recent: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # NOTE[DIFF]: SwAV queues latents of both views from a late epoch on; here the latest 4T of
        # each view are queued from the first step on, for batches of fewer samples only.
        self.register_buffer("recent", torch.zeros(2, 4 * size, dim))

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, SwAVOptions)
        return cls(backbone.latent_dim, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        # NOTE[DIFF]: the two views are the sample itself and one augmentation; there are no crops
        # of several sizes.
        view = augment(step.embedded, self.options.view, step.generator)
        term: LossTerm = self(step.latent, step.encode_view(view))
        return term

    def forward(self, latent: Float[Tensor, "B D"], view: Float[Tensor, "B D"]) -> LossTerm:
        """The loss of latents and the latents of their views; needs no other part of aqcl.

        In evaluation mode nothing is counted, stored or set.
        """
        frozen = bool(self.steps < self.options.warmup_steps)
        if self.training:
            self._normalise_prototypes()
            self.steps += 1
        # A copy: the next call may change them before this one's gradient is taken.
        prototypes = self.prototypes.clone() if self.training else unit(self.prototypes)
        if frozen:
            prototypes = prototypes.detach()
        both = unit(self.projector(torch.cat([latent, view]))).chunk(2)
        scores = [similarities(z, prototypes) for z in both]
        codes = [
            self._assign(own.detach(), queue)
            for own, queue in zip(scores, self.recent, strict=True)
        ]
        if self.training:
            for z, queue in zip(both, self.recent, strict=True):
                push(queue, z)
        losses = swapped_prediction(
            scores[0], scores[1], codes[0], codes[1], temperature=self.options.temperature
        )
        value = losses.sum() / max(len(losses), 1)
        return LossTerm.of(value)

    @torch.no_grad()
    def _assign(self, scores: Float[Tensor, "B T"], queue: Tensor) -> Float[Tensor, "B T"]:
        """Balanced soft codes of the samples of one view; each row sums to one."""
        n_samples = len(scores)
        if n_samples == 0:
            return scores
        plan = balanced(
            scores,
            queue,
            self.prototypes,
            epsilon=self.options.sinkhorn_epsilon,
            iterations=self.options.sinkhorn_iterations,
        )
        return plan[:n_samples] * len(plan)

    @torch.no_grad()
    def _normalise_prototypes(self) -> None:
        self.prototypes.copy_(unit(self.prototypes))


def swapped_prediction(
    scores: Float[Tensor, "B T"],
    view_scores: Float[Tensor, "B T"],
    codes: Float[Tensor, "B T"],
    view_codes: Float[Tensor, "B T"],
    *,
    temperature: float,
) -> Float[Tensor, " B"]:
    """Cross-entropy of each view's prediction with the codes of the other, averaged over both.

    Args:
        scores: cosines of the latents of the samples and the prototypes.
        view_scores: cosines of the latents of their views and the prototypes.
        codes: q of the samples; rows sum to one and have no gradient.
        view_codes: q of the views.
        temperature: t of equation 2.

    Reference: arXiv 2006.09882, equations 1 and 2.
    """
    predicted = (scores / temperature).log_softmax(1)
    view_predicted = (view_scores / temperature).log_softmax(1)
    return -(view_codes * predicted + codes * view_predicted).sum(1) / 2
