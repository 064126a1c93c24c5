"""Instance-level contrastive learning: each sample must find its own augmented view."""

from dataclasses import field
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl.batch import Embedded, LossTerm
from aqcl.config import options_of, settings
from aqcl.contracts import Backbone, Facts, Step
from aqcl.contrastive import check_views, info_nce
from aqcl.projector import Projector
from aqcl.views import ViewOptions, augment


@settings
class ICLOptions:
    """Options of the regularizer `icl`."""

    weight: Annotated[float, Bounds(ge=0)] = 0.05
    """w of equation 8; the paper searches {0.01, 0.05, 0.1}."""
    temperature: Annotated[float, Bounds(gt=0)] = 0.1
    """Temperature of the similarities."""
    dim: Annotated[int, Bounds(ge=1)] = 64
    """Dimension of z; the paper finds 32 and more fine."""
    hidden_dim: Annotated[int, Bounds(ge=1)] = 64
    """Width of the projector's hidden layers."""
    view: ViewOptions = field(default_factory=ViewOptions)
    """How the second view is made."""
    symmetric: bool = False
    """Both views as anchors, as SimCLR does; the paper's equation 2 has one direction."""


class ICL(nn.Module):
    """SimCLR's loss as an auxiliary task during training.

    Reference: arXiv 2109.13921, section 4.1, equation 2; arXiv 2002.05709.
    """

    Options: ClassVar[type] = ICLOptions

    def __init__(self, latent_dim: int, options: ICLOptions | None = None) -> None:
        super().__init__()
        self.options = options_of(ICLOptions, options)
        self.weight = self.options.weight
        self.latent_dim = latent_dim
        self.projector = Projector(latent_dim, self.options.hidden_dim, self.options.dim)

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, ICLOptions)
        return cls(backbone.latent_dim, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def forward(self, latent: Float[Tensor, "B D"], view: Float[Tensor, "B D"]) -> LossTerm:
        """The loss of latents and the latents of their views; needs no other part of aqcl.

        Raises:
            ConfigError: shapes that do not fit.
        """
        check_views(latent, view, self.latent_dim)
        z, z_view = self.projector(torch.cat([latent, view])).chunk(2)
        losses = info_nce(
            z, z_view, temperature=self.options.temperature, symmetric=self.options.symmetric
        )
        value = losses.mean()
        return LossTerm.of(value)

    def loss(self, step: Step) -> LossTerm:
        options = self.options
        view = augment(step.embedded, options.view, step.generator)
        term: LossTerm = self(step.latent, step.encode_view(view))
        return term
