"""The projector g: latent h to the space z in which views and codewords are compared."""

from torch import nn


class Projector(nn.Sequential):
    """(N, latent_dim) to (N, dim): three linear layers, leaky ReLU between them, nothing after.

    There is no normalisation: equations 2 to 5 normalise what they compare.

    Reference: arXiv 2109.13921, section 4.1 ("a 3-layer MLP with the leaky-ReLU activation").
    """

    def __init__(self, latent_dim: int, hidden_dim: int, dim: int) -> None:
        super().__init__(
            nn.Linear(latent_dim, hidden_dim),
            nn.LeakyReLU(0.01),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(0.01),
            nn.Linear(hidden_dim, dim),
        )
