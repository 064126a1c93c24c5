"""CL4CTR: embeddings that interact alike under dropout, alike in a field, unlike across fields."""

from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step, field_width
from aqcl.contrastive import precise
from aqcl.embeddings import field_vectors
from aqcl.layers import dropout_mask

COSINE_FLOOR = 1e-4
"""Added to the product of two lengths before dividing by it; the authors' value."""


@settings
class CL4CTROptions:
    """Options of the regularizer `cl4ctr`; the defaults are those of the authors' code."""

    weight: Annotated[float, Bounds(ge=0)] = 1.0
    """Coefficient of the whole loss."""
    contrast_weight: Annotated[float, Bounds(ge=0)] = 1.0
    """Alpha: coefficient of the contrast of two views."""
    field_weight: Annotated[float, Bounds(ge=0)] = 0.01
    """Beta: coefficient of feature alignment and field uniformity."""
    mask_rate: Annotated[float, Bounds(ge=0, lt=1)] = 0.5
    """Probability that a view loses a coordinate of a field's vector."""
    n_layers: Annotated[int, Bounds(ge=1)] = 3
    """Transformer layers of the encoder of interactions."""
    hidden_dim: Annotated[int, Bounds(ge=1)] = 128
    """Width of the network inside each transformer layer."""
    encoder_dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.2
    """Dropout inside the transformer layers."""


class CL4CTR(nn.Module):
    """Two views of all fields meet in an encoder of their own; there are no negatives.

    Args:
        n_fields: F, the number of fields of a sample.
        dim: d, width of a field's vector.
        options: all other settings.

    Reference: arXiv 2212.00522; cl4ctr/cl4ctr, `BasicCL4CTR` in model/BasiclLayer.py.
    """

    Options: ClassVar[type] = CL4CTROptions

    def __init__(self, n_fields: int, dim: int, options: CL4CTROptions | None = None) -> None:
        super().__init__()
        self.options = options or CL4CTROptions()
        self.weight = self.options.weight
        layer = nn.TransformerEncoderLayer(
            dim, 1, self.options.hidden_dim, self.options.encoder_dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, self.options.n_layers, enable_nested_tensor=False
        )
        self.first = nn.Linear(n_fields * dim, dim)
        self.second = nn.Linear(n_fields * dim, dim)

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, CL4CTROptions)
        n_user, n_item, n_context = (len(facts.schema.on(s)) for s in ("user", "item", "context"))
        n_fields = (1 + n_user) + 2 * (1 + n_item) + n_context
        return cls(n_fields, field_width(backbone), options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        # NOTE[DIFF]: CL4CTR has no histories; here the mean of the clicks gives one field for each
        # field of an item, and the zero vector where there is no click.
        fields = field_vectors(step.embedded, step.embedded.user)
        term: LossTerm = self(fields, step.generator)
        return term

    def forward(self, fields: Float[Tensor, "B F d"], generator: Generator) -> LossTerm:
        """The loss of the fields of samples; needs no other part of aqcl."""
        options = self.options
        contrast = squared_distance(
            precise(self.first(self.interact(fields, generator))),
            precise(self.second(self.interact(fields, generator))),
        )
        alignment, uniformity = feature_alignment(fields), field_uniformity(fields)
        value = options.contrast_weight * contrast + options.field_weight * (alignment + uniformity)
        return LossTerm.of(value, contrast=contrast, alignment=alignment, uniformity=uniformity)

    def interact(
        self, fields: Float[Tensor, "B F d"], generator: Generator
    ) -> Float[Tensor, "B width"]:
        """One view of the fields after the encoder, side by side."""
        if self.options.mask_rate > 0:
            fields = fields * dropout_mask(fields, self.options.mask_rate, generator)
        if len(fields) == 0:
            return fields.flatten(1)
        # NOTE[DIFF]: the code of CL4CTR reads its (F, B, d) output as (B, F * d), which mixes the
        # fields of different samples; here each sample keeps its own.
        encoded: Tensor = self.encoder(fields)
        return encoded.flatten(1)


def squared_distance(
    first: Float[Tensor, "B d"], second: Float[Tensor, "B d"]
) -> Float[Tensor, ""]:
    """Mean of |first - second|^2 over the samples.

    Reference: arXiv 2212.00522, contrastive loss; `compute_cl_loss` of the authors' code.
    """
    return (first - second).square().sum() / max(len(first), 1)


def feature_alignment(fields: Float[Tensor, "B F d"]) -> Float[Tensor, ""]:
    """Mean of |e_i - e_j|^2 over pairs of samples and over fields; 0 for fewer than two samples.

    Written as twice the variance, so that no pair is made.

    Reference: arXiv 2212.00522; `compute_alignment_loss` of the authors' code.
    """
    # NOTE[DIFF]: alignment and uniformity are of the samples of the batch, as the code of CL4CTR
    # trains by default; its full version goes over all rows of the embedding tables.
    n_samples, n_fields, _ = fields.shape
    spread = (fields - fields.sum(0) / max(n_samples, 1)).square().sum()
    return 2.0 * spread / max(n_samples - 1, 1) / n_fields


def field_uniformity(fields: Float[Tensor, "B F d"]) -> Float[Tensor, ""]:
    """Mean cosine of all F x F pairs of fields of a sample.

    A field with itself counts too, which is the constant 1 except for very short vectors.

    Reference: arXiv 2212.00522; `compute_uniformity_loss` of the authors' code.
    """
    n_samples, n_fields, _ = fields.shape
    lengths = torch.linalg.vector_norm(fields, dim=2)
    products = fields @ fields.transpose(1, 2)
    cosines = products / (lengths[:, :, None] * lengths[:, None, :] + COSINE_FLOOR)
    mean: Tensor = cosines.sum() / (max(n_samples, 1) * n_fields**2)
    return mean
