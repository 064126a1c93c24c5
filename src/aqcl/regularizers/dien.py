"""DIEN's auxiliary loss: the state after a click must tell the next click from another item."""

from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Sequential, Step, item_width
from aqcl.contrastive import precise
from aqcl.jagged import pad, padded_length, unpad
from aqcl.layers import MLP, BatchNorm, Sizes, statistics_held
from aqcl.schema import FIRST_ID

NORM_EPSILON = 1e-3
"""As in the official code."""


@settings
class DIENOptions:
    """Options of the regularizer `dien`."""

    weight: Annotated[float, Bounds(ge=0)] = 1.0
    """alpha, by which the paper scales the loss; the official code has 1."""
    hidden_sizes: Sizes = (100, 50)
    """Hidden sizes of the network that compares a state with an item."""


class DIEN(nn.Module):
    """Next-click prediction after every click but the latest, against one item drawn uniformly.

    A backbone with a state after each click (`dien`, `sasrec`) is asked for its states; any other
    gets a GRU over its click vectors, which trains those vectors and is not served.

    Reference: arXiv 1809.03672, interest extractor layer, the equation of L_aux; the comparing
    network is that of the official code, mouna99/dien, `auxiliary_net`.
    """

    Options: ClassVar[type] = DIENOptions

    def __init__(
        self, width: int, state_dim: int | None, facts: Facts, options: DIENOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options or DIENOptions()
        self.weight = self.options.weight
        self.n_items, self.max_history = facts.schema.n_items, facts.max_history
        self.gru = nn.GRU(width, width, batch_first=True) if state_dim is None else None
        sizes = self.options.hidden_sizes
        n_inputs = width + (width if state_dim is None else state_dim)
        # NOTE[DIFF]: batch statistics normalise the inputs of this network; the official code asks
        # for that too, but in inference mode, which leaves only a learned scale and shift.
        self.norm = BatchNorm(n_inputs, eps=NORM_EPSILON)
        self.network = nn.Sequential(MLP(n_inputs, sizes, "sigmoid"), nn.Linear(sizes[-1], 1))
        for layer in self.network.modules():
            if isinstance(layer, nn.Linear):
                # As in the official code; PyTorch's own start is too small for sigmoids.
                nn.init.xavier_uniform_(layer.weight)

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, DIENOptions)
        state_dim = backbone.state_dim if isinstance(backbone, Sequential) else None
        return cls(item_width(backbone), state_dim, facts, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        # NOTE[DIFF]: the mean is over all clicks that another one follows; the paper adds up the
        # clicks of a history and takes the mean over histories, and the official code counts padded
        # clicks too. Negatives are drawn uniformly from all items, and may hit the next click.
        embedded = step.embedded.without_masked()
        segment, clicks = embedded.segment, embedded.history_vectors
        place = (segment[1:] == segment[:-1]).nonzero().squeeze(1)
        ids = torch.randint(
            FIRST_ID, self.n_items, place.shape, generator=step.generator, device=place.device
        )
        states = self._states(step.backbone, embedded).index_select(0, place)
        following = clicks.index_select(0, place + 1)
        drawn = step.backbone.embed_items(ids).flatten(1)
        value = next_click_loss(*self.compare(states, following, drawn))
        return LossTerm.of(value)

    def compare(
        self,
        states: Float[Tensor, "N state"],
        following: Float[Tensor, "N width"],
        drawn: Float[Tensor, "N width"],
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Logits of each item's being the click that follows a state; one batch for the norm."""
        items = torch.cat([following, drawn])
        logit: Tensor = self.network(self.norm(torch.cat([states.repeat(2, 1), items], dim=1)))
        n_pairs = len(states)
        of_following, of_drawn = precise(logit).squeeze(1).split([n_pairs, n_pairs])
        return of_following, of_drawn

    def _states(self, backbone: Backbone, embedded: Embedded) -> Float[Tensor, "S state"]:
        if self.gru is None:
            assert isinstance(backbone, Sequential)
            assert isinstance(backbone, nn.Module)
            with statistics_held(backbone):
                return backbone.states(embedded)
        segment, offsets = embedded.segment, embedded.offsets
        length = padded_length(offsets, self.max_history)
        # Behind the last click stand zeros, which no state before them sees.
        states, _ = self.gru(pad(embedded.history_vectors, segment, offsets, length))
        return unpad(states, segment, offsets)


def next_click_loss(
    following: Float[Tensor, " N"], drawn: Float[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Mean of -log sig(following) - log(1 - sig(drawn)), of logits; zero without any.

    Reference: arXiv 1809.03672, the equation of L_aux.
    """
    return (F.softplus(-following) + F.softplus(drawn)).sum() / max(len(following), 1)
