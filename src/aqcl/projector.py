"""The projector g: latent h to the space z in which views and codewords are compared."""

from torch import Tensor, nn


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

    def forward(self, latent: Tensor) -> Tensor:
        """The projected latents; autocast may have made them of half precision elsewhere."""
        projected = latent.to(next(self.parameters()).dtype)
        for layer in self:
            projected = layer(projected)
        return projected
