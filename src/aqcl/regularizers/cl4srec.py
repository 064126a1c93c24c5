"""CL4SRec: two random changes of the same click history must find each other."""

import dataclasses
from dataclasses import field
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step
from aqcl.contrastive import info_nce, same_group
from aqcl.projector import Projector
from aqcl.views import HistoryViewOptions, augment_history, history_alone


@settings
class CL4SRecOptions:
    """Options of the regularizer `cl4srec`."""

    weight: Annotated[float, Bounds(ge=0)] = 0.1
    """Coefficient of the loss."""
    temperature: Annotated[float, Bounds(gt=0)] = 0.1
    """Temperature of the similarities."""
    dim: Annotated[int, Bounds(ge=1)] = 64
    """Dimension in which views are compared."""
    hidden_dim: Annotated[int, Bounds(ge=1)] = 64
    """Width of the projector's hidden layers."""
    view: HistoryViewOptions = field(default_factory=HistoryViewOptions)
    """How both views are made."""


class CL4SRec(nn.Module):
    """Both views of some clicks are anchors; the views of the other users' clicks are negatives.

    Reference: arXiv 2010.14395, section 3.
    """

    Options: ClassVar[type] = CL4SRecOptions

    def __init__(self, latent_dim: int, options: CL4SRecOptions | None = None) -> None:
        super().__init__()
        self.options = options or CL4SRecOptions()
        self.weight = self.options.weight
        self.projector = Projector(latent_dim, self.options.hidden_dim, self.options.dim)

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, CL4SRecOptions)
        return cls(backbone.latent_dim, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def forward(
        self,
        first: Float[Tensor, "B D"],
        second: Float[Tensor, "B D"],
        user: Int[Tensor, " B"],
    ) -> LossTerm:
        """The loss of the latents of both views; needs no other part of aqcl."""
        # NOTE[DIFF]: CL4SRec compares the last states of its sequence model by dot products; here
        # latents of the clicks alone are projected and compared by cosines with a temperature.
        # There a user has one sequence; here samples of one user are no negatives of each other.
        z_first, z_second = self.projector(torch.cat([first, second])).chunk(2)
        losses = info_nce(
            z_first,
            z_second,
            temperature=self.options.temperature,
            symmetric=True,
            ignore=same_group(user),
        )
        value = losses.sum() / max(len(losses), 1)
        return LossTerm.of(value)

    def loss(self, step: Step) -> LossTerm:
        # A candidate or a user that both views show would tell that they belong together, and
        # nothing would be learned of the clicks.
        clicks, view = history_alone(step.embedded.without_masked()), self.options.view
        first = augment_history(clicks, view, step.generator)
        second = augment_history(clicks, view, step.generator)
        # The views have dropout of their own: two reorderings may be the same otherwise.
        again = dataclasses.replace(step, view_seed=step.view_seed + 1)
        latents = step.encode_view(first), again.encode_view(second)
        # A single click has no other views than itself.
        rows = (clicks.offsets.diff() > 1).nonzero().squeeze(1)
        term: LossTerm = self(*(latent[rows] for latent in latents), step.batch.user[rows])
        return term
