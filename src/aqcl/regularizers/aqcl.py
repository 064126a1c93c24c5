"""Auto-quantized contrastive learning: contrast with instances and with learned interests."""

import math
from dataclasses import field
from typing import Annotated, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int, Num
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl import contrastive
from aqcl.activity import check_activity
from aqcl.alpha_shapes import W1_RANGE, W2_RANGE, AlphaLearning, AlphaShape, Kind
from aqcl.batch import Embedded, LossTerm
from aqcl.codebook import balanced, diagnostics, interest_readout, moved_codebook, push, spread
from aqcl.config import options_of, settings
from aqcl.contracts import Backbone, Facts, Step
from aqcl.errors import ConfigError
from aqcl.projector import Projector
from aqcl.views import ViewOptions, augment

USAGE_DECAY = 0.99
"""Decay per step of the running share of samples assigned to each codeword."""


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
    alpha: Kind = "curve"
    """`curve` of equation 6 with `w1` and `w2`, one alpha for each of several `groups` of
    activities, or a monotone `spline` in log(1 + activity)."""
    group_bounds: tuple[float, ...] = (1.0, 2.0)
    """The largest activity of each group but the last, in multiples of the mean activity."""
    group_values: tuple[float, ...] = (0.65, 0.25, 0.05)
    """Alpha of each group, the least active first; as many as bounds, and one more."""
    spline_knots: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0)
    """Activities at which the spline is given, in multiples of the mean activity."""
    spline_values: tuple[float, ...] = (1.0, 0.61, 0.37, 0.14, 0.02)
    """Alpha at the knots, never rising; as many as knots."""
    learn_alpha: AlphaLearning = field(default_factory=AlphaLearning)
    """Whether and how alpha is learned during training."""
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
    sinkhorn_epsilon: Annotated[float, Bounds(ge=0.03)] = 0.05
    """Weight of the entropy in the balanced assignment, equation 4; with less than 0.03 rounding
    leaves codewords without their share."""
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
    codebook: Literal["gradient", "ema"] = "gradient"
    """`gradient` of equation 5, or moving averages of the assigned latents: spherical k-means."""
    codebook_decay: Annotated[float, Bounds(ge=0, lt=1)] = 0.99
    """Decay per step of the moving averages of `codebook = "ema"`."""
    false_negatives: Literal["keep", "user", "item", "intent"] = "keep"
    """Samples with the same `user`, `item` or nearest codeword (`intent`) are no negatives."""
    block_size: Annotated[int, Bounds(ge=2)] | None = None
    """Most samples that are contrasted with each other: a larger batch is cut into blocks, each
    with its own instance negatives, in less memory; None contrasts the whole batch."""
    readout: bool = False
    """Whether the prediction layer sees the nearest interests, when the model is served too."""

    def __post_init__(self) -> None:
        if self.joint_codebook and self.codebook == "ema":
            raise ConfigError(
                "joint_codebook = true trains the codebook by gradients, but with codebook = 'ema' "
                "it takes none: leave one of the two out"
            )
        if self.constant_alpha is not None and self.alpha != "curve":
            raise ConfigError(
                f"constant_alpha = {self.constant_alpha} takes the place of the curve, but alpha = "
                f"'{self.alpha}': leave one of the two out"
            )
        if self.learn_alpha.enabled and self.constant_alpha is not None:
            raise ConfigError(
                f"learn_alpha.enabled = true has nothing to learn with constant_alpha = "
                f"{self.constant_alpha}: leave one of the two out"
            )
        if self.learn_alpha.enabled and self.alpha == "curve":
            for key, value, (low, high) in (("w1", self.w1, W1_RANGE), ("w2", self.w2, W2_RANGE)):
                if not low <= value <= high:
                    raise ConfigError(
                        f"{key}: expected {low} to {high} with learn_alpha.enabled = true, which "
                        f"looks for it there, got {value}: start inside or do not learn alpha"
                    )
        self.shape()

    def shape(self) -> AlphaShape:
        """Alpha as a function of activity."""
        if self.alpha == "groups":
            return AlphaShape("groups", self.group_values, self.group_bounds)
        if self.alpha == "spline":
            return AlphaShape("spline", self.spline_values, self.spline_knots)
        return AlphaShape("curve", (self.w1, self.w2))


class AQCL(nn.Module):
    """Projector, codebook and alpha of the AQCL loss, attachable to any model with a latent.

    Args:
        latent_dim: width of the latent h.
        mean_activity: L, mean number of training clicks of the users who have any; above 0, or it
            is a `ConfigError`.
        options: all other settings.

    Reference: arXiv 2109.13921, section 4.2, algorithm 1.
    """

    Options: ClassVar[type] = AQCLOptions

    def __init__(
        self, latent_dim: int, mean_activity: float, options: AQCLOptions | None = None
    ) -> None:
        super().__init__()
        if not 0 < mean_activity < math.inf:
            raise ConfigError(
                f"mean_activity: expected the mean number of training clicks of the users who have "
                f"any, which is above 0, got {mean_activity}"
            )
        self.options = options_of(AQCLOptions, options)
        self.weight = self.options.weight
        self.latent_dim = latent_dim
        self.mean_activity = mean_activity
        self.shape = self.options.shape()
        size, dim = self.options.n_codewords, self.options.dim
        self.projector = Projector(latent_dim, self.options.hidden_dim, dim)
        self.codebook = nn.Parameter(contrastive.unit(torch.randn(size, dim)))
        self.steps: Tensor
        self.recent: Tensor
        self.usage: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # NOTE[DIFF]: the latest 4T latents, kept for setting the codebook after the warm-up and
        # for balancing the assignment of a batch that has fewer than four samples for each
        # codeword, too few to fill all evenly.
        self.register_buffer("recent", torch.zeros(4 * size, dim))
        self.register_buffer("usage", torch.full((size,), 1.0 / size))
        averaged = self.options.codebook == "ema"
        self.codebook.requires_grad_(not averaged)
        self.sums: Tensor | None
        self.register_buffer("sums", torch.zeros(size, dim) if averaged else None)
        learned = self.options.learn_alpha.enabled
        self.free_alpha: Tensor | None
        # A buffer: the loop moves it by the validation loss, the optimizer never does.
        self.register_buffer("free_alpha", self.shape.free() if learned else None)
        self.reading: nn.Linear | None = None
        if self.options.readout:
            # From zero, so that a model starts as the one without.
            self.reading = nn.Linear(dim, latent_dim, bias=False)
            nn.init.zeros_(self.reading.weight)

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, AQCLOptions)
        return cls(backbone.latent_dim, facts.mean_activity, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        options = self.options
        view = augment(step.embedded, options.view, step.generator)
        groups = {"user": step.batch.user, "item": step.batch.item}.get(options.false_negatives)
        term: LossTerm = self(
            step.latent,
            step.encode_view(view),
            step.embedded.activity,
            groups=groups,
            diagnose=step.diagnose,
        )
        return term

    def reads(self) -> bool:
        return self.reading is not None

    def read(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, "B H"]:
        """W (alpha times the nearest interests); zero until the warm-up is over."""
        assert self.reading is not None
        options, codebook = self.options, self.codebook.detach()
        # NOTE[DIFF]: the paper serves no codebook; `readout` does, after UIE (arXiv 2405.13238),
        # which appends to the input what is here gated by alpha and added to the latent.
        interests = interest_readout(
            self.projector(latent), codebook, options.top_k, options.cluster_temperature
        )
        settled = self.steps > options.warmup_steps
        weight = (self.alpha(embedded.activity) * settled).to(interests.dtype)
        added: Tensor = self.reading(weight[:, None] * interests)
        return added

    def forward(
        self,
        latent: Float[Tensor, "B H"],
        view: Float[Tensor, "B H"],
        activity: Num[Tensor, " B"],
        *,
        groups: Int[Tensor, " B"] | None = None,
        diagnose: bool = True,
    ) -> LossTerm:
        """The loss of a batch; needs no other part of aqcl.

        Add `weight * term.value + term.own` to the loss of the model; one backward and one
        optimizer serve both. In evaluation mode nothing is learned or counted: held-out rows do
        not reach the codebook.

        Args:
            latent: h of the samples.
            view: h of their augmented views.
            activity: L_j, number of clicks of the user before each sample.
            groups: the user or the item of each sample, where `false_negatives` asks for it.
            diagnose: whether to compute the diagnostics of the codebook.

        Raises:
            ConfigError: `groups` is missing, or given where it has no use; shapes that do not fit;
                during the warm-up, an activity that is no count, such as a standardised one.
        """
        contrastive.check_views(latent, view, self.latent_dim)
        steps = int(self.steps)  # read once: on a device each reading waits for what it has to do
        # Values at first only, for the same reason.
        check_activity(activity, len(latent), values=steps <= max(self.options.warmup_steps, 1))
        z, z_view = self.projector(torch.cat([latent, view])).chunk(2)
        if self.training:
            if steps == self.options.warmup_steps:
                self._set_codebook()
            steps += 1
            self.steps += 1
            self._normalise_codebook()
        codebook = self._codewords()
        settled = steps > self.options.warmup_steps
        groups = self._false_negatives(z, groups, settled=settled)
        if not settled:
            if self.training:
                push(self.recent, z)
            return LossTerm.of(self._contrast(z, z_view, codebook, None, groups).mean())
        value = self._contrast(z, z_view, codebook, self.alpha(activity), groups).mean()
        similarity = contrastive.similarities(
            contrastive.unit(z.detach()), contrastive.unit(codebook)
        )
        codes = self._assign(similarity.detach())
        if self.training:
            push(self.recent, z)
        own = contrastive.codebook_loss(
            similarity, codes, temperature=self.options.codebook_temperature
        )
        logs = {"value": value.detach(), "codebook": own.detach()}
        if self.sums is not None:
            own = value.new_zeros(())
            if self.training:
                self._move_codebook(z, codes)
        if diagnose:
            codewords = self._codewords().detach()
            logs |= diagnostics(z, z_view, codewords, codes, self.usage, self.options.top_k)
        return LossTerm(value, own, logs)

    def alpha(self, activity: Num[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Weight of the clusters for each sample."""
        if not activity.is_floating_point():  # in a loop of one's own
            activity = activity.to(torch.get_default_dtype())
        if self.options.constant_alpha is not None:
            constant = self.options.constant_alpha
            return torch.full(activity.shape, constant, device=activity.device)
        if self.free_alpha is not None:
            return self.shape.at(self.free_alpha, activity, self.mean_activity)
        return self.shape.of(activity, self.mean_activity)

    @torch.no_grad()
    def _false_negatives(
        self, z: Tensor, groups: Tensor | None, *, settled: bool
    ) -> Int[Tensor, " B"] | None:
        """The group of each sample, whose members are no negatives of it; None keeps all."""
        kind = self.options.false_negatives
        if (groups is not None) != (kind in ("user", "item")):
            raise ConfigError(
                f"groups: expected ids with false_negatives = 'user' or 'item', else None; it is "
                f"'{kind}', and groups were {'not ' if groups is None else ''}given"
            )
        if groups is not None and groups.shape != (len(z),):
            raise ConfigError(f"groups: expected shape ({len(z)},), got {tuple(groups.shape)}")
        # NOTE[DIFF]: ICLRec masks the same intent among the intents of other samples and finds it
        # by k-means once an epoch; here it is masked among the instances, by nearest codeword.
        if kind == "intent" and settled:
            groups = contrastive.similarities(contrastive.unit(z), self._codewords()).argmax(1)
        return groups

    def _contrast(
        self,
        z: Tensor,
        z_view: Tensor,
        codebook: Tensor,
        weight: Tensor | None,
        groups: Tensor | None,
    ) -> Float[Tensor, " B"]:
        """The loss of each sample; without a weight of the clusters, of the instances alone."""
        options, losses = self.options, []
        for block in contrastive.blocks(len(z), options.block_size):
            # Only now: what a block bounds is these matrices too.
            ignore = None if groups is None else contrastive.same_group(groups[block])
            if weight is None:
                loss = contrastive.info_nce(
                    z[block],
                    z_view[block],
                    temperature=options.instance_temperature,
                    symmetric=options.symmetric,
                    ignore=ignore,
                )
            else:
                loss = contrastive.aqcl(
                    z[block],
                    z_view[block],
                    codebook if options.joint_codebook else codebook.detach(),
                    weight[block],
                    top_k=options.top_k,
                    instance_temperature=options.instance_temperature,
                    cluster_temperature=options.cluster_temperature,
                    denominator=options.denominator,
                    pool=options.pool,
                    symmetric=options.symmetric,
                    ignore=ignore,
                )
            losses.append(loss)
        return torch.cat(losses)

    @torch.no_grad()
    def _assign(self, similarity: Float[Tensor, "B T"]) -> Int[Tensor, " B"]:
        """The codeword of each sample by balanced assignment."""
        n_samples = len(similarity)
        plan = balanced(
            similarity,
            self.recent,
            self._codewords(),
            epsilon=self.options.sinkhorn_epsilon,
            iterations=self.options.sinkhorn_iterations,
        )
        codes = plan[:n_samples].argmax(1)
        if self.training:
            counts = torch.bincount(codes, minlength=len(self.usage)).to(self.usage.dtype)
            self.usage.lerp_(counts / n_samples, 1.0 - USAGE_DECAY)
        return codes

    def _codewords(self) -> Float[Tensor, "T d"]:
        """The codewords, of length one, in fp32 or better; a step may have changed theirs."""
        if not self.training:
            return contrastive.unit(self.codebook)
        # A copy: the next call may change the codewords before this one's gradient is taken.
        return contrastive.precise(self.codebook).clone()

    @torch.no_grad()
    def _normalise_codebook(self) -> None:
        self.codebook.copy_(contrastive.unit(self.codebook))

    @torch.no_grad()
    def _move_codebook(self, z: Tensor, codes: Tensor) -> None:
        assert self.sums is not None
        codebook, sums = moved_codebook(
            self.codebook, self.sums, z, codes, decay=self.options.codebook_decay
        )
        self.codebook.copy_(codebook)
        self.sums.copy_(sums)

    @torch.no_grad()
    def _set_codebook(self) -> None:
        """Put the codewords on distinct stored latents; too few of them leave the rest random."""
        chosen = spread(self.recent, len(self.codebook))
        self.codebook[: len(chosen)] = chosen.to(self.codebook.dtype)
