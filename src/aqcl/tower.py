"""The deep side of a CTR model: an MLP whose last hidden layer is the latent."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field as Bounds
from torch import Tensor, nn

from aqcl.config import settings
from aqcl.embeddings import EmbeddingOptions
from aqcl.layers import MLP, Activation


@settings
class TowerOptions(EmbeddingOptions):
    """Options of the embedding layer and of the top network."""

    sizes: Annotated[tuple[int, ...], Bounds(min_length=1)] = (200, 80)
    """Hidden sizes of the top network; the last one is the latent."""
    activation: Activation = "relu"
    """Activation of the top network."""
    dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.2
    """Dropout after each layer of the top network."""


class Tower(nn.Module):
    """The top network of a backbone: inputs (B, n_inputs) to the latent (B, sizes[-1])."""

    def __init__(self, n_inputs: int, options: TowerOptions) -> None:
        super().__init__()
        self.layers = MLP(n_inputs, options.sizes, options.activation, options.dropout)

    def forward(
        self, inputs: Float[Tensor, "B I"], activity: Float[Tensor, " B"]
    ) -> Float[Tensor, "B D"]:
        latent: Tensor = self.layers(inputs)
        return latent
