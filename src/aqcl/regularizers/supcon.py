"""SupCon: samples of one label must find each other among all samples of the batch."""

from dataclasses import field
from typing import Annotated, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step
from aqcl.contrastive import precise, unit
from aqcl.layers import look_up
from aqcl.projector import Projector
from aqcl.views import ViewOptions, augment


@settings
class SupConOptions:
    """Options of the regularizer `supcon`."""

    weight: Annotated[float, Bounds(ge=0)] = 0.01
    """Coefficient of the loss; small, because two classes alone pull the latents to two points."""
    temperature: Annotated[float, Bounds(gt=0)] = 0.1
    """Temperature of the similarities."""
    positives: Literal["label", "label+activity"] = "label"
    """Which samples belong together: those of one `label`, or of one label whose users are all more
    or all less active than the mean (`label+activity`)."""
    dim: Annotated[int, Bounds(ge=1)] = 64
    """Dimension in which samples are compared."""
    hidden_dim: Annotated[int, Bounds(ge=1)] = 64
    """Width of the projector's hidden layers."""
    view: ViewOptions = field(default_factory=ViewOptions)
    """How the second view is made."""


class SupCon(nn.Module):
    """Supervised contrast over both views of the batch, as an auxiliary task.

    Reference: arXiv 2004.11362, section 3.2, equation 2, averaged over the anchors as the authors'
    code does (HobbitLong/SupContrast, losses.py).
    """

    Options: ClassVar[type] = SupConOptions

    def __init__(
        self, latent_dim: int, mean_activity: float, options: SupConOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options or SupConOptions()
        self.weight = self.options.weight
        self.mean_activity = mean_activity
        self.projector = Projector(latent_dim, self.options.hidden_dim, self.options.dim)

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, SupConOptions)
        return cls(backbone.latent_dim, facts.mean_activity, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        view = augment(step.embedded, self.options.view, step.generator)
        groups = self.groups(step.batch.label, step.batch.activity)
        term: LossTerm = self(step.latent, step.encode_view(view), groups)
        return term

    def forward(
        self, latent: Float[Tensor, "B D"], view: Float[Tensor, "B D"], groups: Int[Tensor, " B"]
    ) -> LossTerm:
        """The loss of latents and the latents of their views; needs no other part of aqcl."""
        z = self.projector(torch.cat([latent, view]))
        losses = supervised_contrast(z, groups.repeat(2), temperature=self.options.temperature)
        value = losses.sum() / max(len(losses), 1)
        return LossTerm.of(value)

    def groups(
        self, label: Float[Tensor, " B"], activity: Float[Tensor, " B"]
    ) -> Int[Tensor, " B"]:
        """A number for each sample, the same for samples that belong together."""
        if self.options.positives == "label":
            return label.long()
        # NOTE[DIFF]: the classes of SupCon are labels; `label+activity` also tells users of more
        # than average activity from the others.
        return 2 * label.long() + (activity > self.mean_activity).long()


def supervised_contrast(
    z: Float[Tensor, "N D"], groups: Int[Tensor, " N"], *, temperature: float
) -> Float[Tensor, " N"]:
    """Each sample must find the others of its group among all others; 0 where there are none.

    The logarithm is inside the mean over the positives (L_out). That mean needs no N x N matrix:
    it is the similarity to the sum of the group.

    Args:
        z: projected latents of any length, each view a sample of its own.
        groups: the group of each sample.
        temperature: t.

    Reference: arXiv 2004.11362, equation 2.
    """
    z = unit(z)
    _, group = groups.unique(return_inverse=True)
    n_positives = torch.bincount(group)[group] - 1
    sums = z.new_zeros(len(z), z.shape[1]).index_add(0, group, z)
    positive = ((z * look_up(sums, group)).sum(1) - z.square().sum(1)) / n_positives.clamp(min=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = precise(z / temperature @ z.T)
    # Not minus infinity, whose gradient is no number where a sample is alone.
    others = similarity.masked_fill(itself, torch.finfo(similarity.dtype).min).logsumexp(1)
    return (others - positive / temperature) * (n_positives > 0)
