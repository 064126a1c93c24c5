"""The deep side of a CTR model: an MLP whose last hidden layer is the latent, and its gates."""

from collections.abc import Sequence
from typing import Annotated, Final

import torch
from jaxtyping import Float
from pydantic import Field as Bounds
from torch import Tensor, nn

from aqcl.config import settings
from aqcl.embeddings import EmbeddingOptions
from aqcl.layers import MLP, Activation, Sizes

CODE_THRESHOLDS: Final = tuple(2.0**power - 1 for power in range(1, 16))
"""Fewest clicks of each activity bucket but the first: bucket floor(log2(1 + clicks)), up to 15."""
CODE_DIM = 8
"""Width of the vector of an activity bucket."""
GATE_DIM = 16
"""Hidden size of the network of a gate."""
GATE_SCALE = 2.0
"""POSO's factor C, the upper bound of a gate."""


@settings
class TowerOptions(EmbeddingOptions):
    """Options of the embedding layer and of the top network."""

    sizes: Sizes = (200, 80)
    """Hidden sizes of the top network; the last one is the latent."""
    activation: Activation = "relu"
    """Activation of the top network."""
    dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.2
    """Dropout after each layer of the top network."""
    activity_gates: bool = False
    """Whether the user's number of earlier clicks gates each hidden unit of the top network, as
    POSO (arXiv 2108.04690) does."""


class ActivityGates(nn.Module):
    """A factor for each hidden unit of an MLP: C sigmoid(MLP(code)) for the user's activity code.

    The code is a learned vector for 0, 1 to 2, 3 to 6, 7 to 14... earlier clicks; all layers see
    the same one.

    Reference: arXiv 2108.04690, section 4.2, equation 11, and section 4.5.
    """

    # NOTE[DIFF]: POSO leaves its factor C open; 2, as in public code, makes a gate whose network
    # says 0 equal to 1. POSO's code counts the items shown to a user, this one earlier clicks.

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.thresholds: Tensor
        self.register_buffer("thresholds", torch.tensor(CODE_THRESHOLDS), persistent=False)
        self.codes = nn.Embedding(len(CODE_THRESHOLDS) + 1, CODE_DIM)
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Linear(CODE_DIM, GATE_DIM), nn.ReLU(), nn.Linear(GATE_DIM, size))
            for size in sizes
        )

    def forward(self, activity: Float[Tensor, " B"]) -> list[Tensor]:
        """The gates (B, size) of each layer."""
        bucket = (activity[:, None] >= self.thresholds).sum(1)
        code = self.codes(bucket)
        return [GATE_SCALE * torch.sigmoid(network(code)) for network in self.networks]


class Tower(nn.Module):
    """The top network of a backbone: inputs (B, n_inputs) to the latent (B, sizes[-1]).

    With `activity_gates` the output of each hidden layer is multiplied by its gates.
    """

    def __init__(self, n_inputs: int, options: TowerOptions) -> None:
        super().__init__()
        self.layers = MLP(n_inputs, options.sizes, options.activation, options.dropout)
        # After the layers: these start from the same weights with and without gates.
        self.gates = ActivityGates(options.sizes) if options.activity_gates else None

    def forward(
        self, inputs: Float[Tensor, "B I"], activity: Float[Tensor, " B"]
    ) -> Float[Tensor, "B D"]:
        if self.gates is None:
            latent: Tensor = self.layers(inputs)
            return latent
        gates = self.gates(activity)
        n_steps = len(self.layers) // len(gates)  # linear, activation and, if any, dropout
        hidden = inputs
        for number, step in enumerate(self.layers):
            hidden = step(hidden)
            if number % n_steps == n_steps - 1:
                hidden = hidden * gates[number // n_steps]
        return hidden
