"""Auto-quantized contrastive learning: contrast with instances and with learned interests."""

from dataclasses import field
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl import contrastive
from aqcl.activity import alpha
from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step
from aqcl.projector import Projector
from aqcl.views import ViewOptions, augment

USAGE_DECAY = 0.99
"""Decay per step of the running share of samples assigned to each codeword."""
DEAD_SHARE = 0.1
"""A codeword used less than this part of its fair share 1/T counts as dead."""
DIAGNOSED_SAMPLES = 256
"""Samples of the batch that the uniformity diagnostic looks at."""


@settings
class AQCLOptions:
    """Options of the regularizer `aqcl`; the defaults are the paper's where it states them."""

    weight: Annotated[float, Bounds(ge=0)] = 0.05
    """w of equation 8; the paper searches {0.01, 0.05, 0.1}."""
    w1: Annotated[float, Bounds(gt=0)] = 1.0
    """Alpha of a user of average activity is exp(-w1); equation 6."""
    w2: Annotated[float, Bounds(gt=0)] = 1.0
    """How sharply alpha falls around the average activity; equation 6."""
    constant_alpha: Annotated[float, Bounds(ge=0, le=1)] | None = None
    """One alpha for everybody in place of the curve (figure 5, right)."""
    n_codewords: Annotated[int, Bounds(ge=1)] = 128
    """T, the number of interests in the codebook."""
    top_k: Annotated[int, Bounds(ge=1)] = 5
    """K, the number of nearest interests that are positive."""
    instance_temperature: Annotated[float, Bounds(gt=0)] = 0.1
    """Temperature t1 of the similarities between instances."""
    cluster_temperature: Annotated[float, Bounds(gt=0)] = 0.1
    """Temperature t2 of the similarities to codewords."""
    codebook_temperature: Annotated[float, Bounds(gt=0)] = 0.1
    """Temperature t3 of the codebook loss."""
    dim: Annotated[int, Bounds(ge=1)] = 64
    """Dimension of z; the paper finds 32 and more fine."""
    hidden_dim: Annotated[int, Bounds(ge=1)] = 64
    """Width of the projector's hidden layers."""
    view: ViewOptions = field(default_factory=ViewOptions)
    """How the second view is made."""
    sinkhorn_epsilon: Annotated[float, Bounds(gt=0)] = 0.05
    """Weight of the entropy in the balanced assignment, equation 4."""
    sinkhorn_iterations: Annotated[int, Bounds(ge=1)] = 3
    """Iterations of the balanced assignment."""
    warmup_steps: Annotated[int, Bounds(ge=0)] = 100
    """Steps of pure instance contrast before the codebook is set from stored latents."""
    denominator: contrastive.Denominator = "joint"
    """`joint` as in equation 3, or `decoupled`: instances and clusters each with their own."""
    pool: contrastive.Pool = "sum"
    """Sum over the K positive codewords as in equation 3, or their mean."""
    symmetric: bool = False
    """Both views as anchors; the paper's loss is defined for the original view only."""
    joint_codebook: bool = False
    """Whether equation 3 trains the codebook too; in the paper only equation 5 does."""


class AQCL(nn.Module):
    """Projector, codebook and alpha of the AQCL loss, attachable to any model with a latent.

    Args:
        latent_dim: width of the latent h.
        mean_activity: L, mean number of training clicks of a training user.
        options: all other settings.

    Reference: arXiv 2109.13921, section 4.2, algorithm 1.
    """

    Options: ClassVar[type] = AQCLOptions

    def __init__(
        self, latent_dim: int, mean_activity: float, options: AQCLOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options or AQCLOptions()
        self.weight = self.options.weight
        self.mean_activity = mean_activity
        size, dim = self.options.n_codewords, self.options.dim
        self.projector = Projector(latent_dim, self.options.hidden_dim, dim)
        self.codebook = nn.Parameter(contrastive.unit(torch.randn(size, dim)))
        self.steps: Tensor
        self.recent: Tensor
        self.usage: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # NOTE[DIFF]: the latest 4T latents, kept for setting the codebook after the warm-up and
        # for balancing the assignment of a batch that is too small to fill every codeword.
        self.register_buffer("recent", torch.zeros(4 * size, dim))
        self.register_buffer("usage", torch.full((size,), 1.0 / size))

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, AQCLOptions)
        return cls(backbone.latent_dim, facts.mean_activity, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        options = self.options
        view = augment(step.embedded, options.view, step.generator)
        latent = step.encode_view(view)
        term: LossTerm = self(step.latent, latent, step.embedded.activity, diagnose=step.diagnose)
        return term

    def forward(
        self,
        latent: Float[Tensor, "B H"],
        view: Float[Tensor, "B H"],
        activity: Float[Tensor, " B"],
        *,
        diagnose: bool = True,
    ) -> LossTerm:
        """The loss of a batch; needs no other part of aqcl.

        Add `weight * term.value + term.own` to the loss of the model; one backward and one
        optimizer serve both.

        Args:
            latent: h of the samples.
            view: h of their augmented views.
            activity: L_j, number of clicks of the user before each sample.
            diagnose: whether to compute the diagnostics of the codebook.
        """
        z, z_view = self.projector(torch.cat([latent, view])).chunk(2)
        done = int(self.steps)
        self.steps += 1
        if done == self.options.warmup_steps:
            self._set_codebook()
        self._normalise_codebook()
        if done < self.options.warmup_steps:
            self._remember(z)
            value = contrastive.info_nce(
                z,
                z_view,
                temperature=self.options.instance_temperature,
                symmetric=self.options.symmetric,
            ).mean()
            return LossTerm(value, value.new_zeros(()), {"value": value.detach()})
        value = self._contrast(z, z_view, self.alpha(activity)).mean()
        similarity = contrastive.unit(z.detach()) @ contrastive.unit(self.codebook).T
        codes = self._assign(similarity.detach())
        self._remember(z)
        own = contrastive.codebook_loss(
            similarity, codes, temperature=self.options.codebook_temperature
        )
        logs = {"value": value.detach(), "codebook": own.detach()}
        if diagnose:
            logs |= self._diagnose(z, z_view, codes)
        return LossTerm(value, own, logs)

    def alpha(self, activity: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Weight of the clusters for each sample."""
        if self.options.constant_alpha is not None:
            constant = self.options.constant_alpha
            return torch.full(activity.shape, constant, device=activity.device)
        return alpha(activity, self.mean_activity, self.options.w1, self.options.w2)

    def _contrast(self, z: Tensor, z_view: Tensor, weight: Tensor) -> Float[Tensor, " B"]:
        options = self.options
        return contrastive.aqcl(
            z,
            z_view,
            self.codebook if options.joint_codebook else self.codebook.detach(),
            weight.to(z.dtype),
            top_k=options.top_k,
            instance_temperature=options.instance_temperature,
            cluster_temperature=options.cluster_temperature,
            denominator=options.denominator,
            pool=options.pool,
            symmetric=options.symmetric,
        )

    @torch.no_grad()
    def _assign(self, similarity: Float[Tensor, "B T"]) -> Int[Tensor, " B"]:
        """The codeword of each sample by balanced assignment."""
        n_samples = len(similarity)
        if n_samples < len(self.recent):
            stored = contrastive.unit(self.recent[self.recent.abs().sum(1) > 0])
            similarity = torch.cat([similarity, stored @ self.codebook.T])
        plan = contrastive.sinkhorn(
            similarity,
            epsilon=self.options.sinkhorn_epsilon,
            iterations=self.options.sinkhorn_iterations,
        )
        codes = plan[:n_samples].argmax(1)
        counts = torch.bincount(codes, minlength=len(self.usage)).to(self.usage.dtype)
        self.usage.lerp_(counts / n_samples, 1.0 - USAGE_DECAY)
        return codes

    @torch.no_grad()
    def _normalise_codebook(self) -> None:
        self.codebook.copy_(contrastive.unit(self.codebook))

    @torch.no_grad()
    def _remember(self, z: Tensor) -> None:
        kept = z.detach()[-len(self.recent) :].to(self.recent.dtype)
        self.recent.copy_(torch.cat([self.recent[len(kept) :], kept]))

    @torch.no_grad()
    def _set_codebook(self) -> None:
        """Put the codewords on distinct stored latents; too few of them leave the rest random."""
        stored = torch.unique(self.recent[self.recent.abs().sum(1) > 0], dim=0)
        count = min(len(stored), len(self.codebook))
        # `unique` sorts, so equal steps through it spread the choice.
        chosen = torch.linspace(0, max(len(stored) - 1, 0), count, device=stored.device).long()
        self.codebook[:count] = stored[chosen].to(self.codebook.dtype)

    @torch.no_grad()
    def _diagnose(self, z: Tensor, z_view: Tensor, codes: Tensor) -> dict[str, Tensor]:
        z, z_view = contrastive.unit(z), contrastive.unit(z_view)
        top_k = min(self.options.top_k, self.options.n_codewords)
        share = self.usage / self.usage.sum()
        batch_share = torch.bincount(codes, minlength=len(share)) / len(codes)
        return {
            "view_similarity": (z * z_view).sum(1).mean(),
            "interest_similarity": (z @ self.codebook.T).topk(top_k, dim=1).values.mean(),
            "uniformity": contrastive.uniformity(z[:DIAGNOSED_SAMPLES]),
            "perplexity": torch.special.entr(share).sum().exp(),
            "batch_perplexity": torch.special.entr(batch_share).sum().exp(),
            "dead_codewords": (share < DEAD_SHARE / len(share)).float().mean(),
        }
