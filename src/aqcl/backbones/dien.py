"""Deep Interest Evolution Network: interests after each click, and how the relevant ones evolve."""

from typing import ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aqcl.attention import TargetAttention
from aqcl.batch import Batch, Embedded
from aqcl.config import settings
from aqcl.contracts import Facts
from aqcl.embeddings import Embeddings
from aqcl.jagged import pad, padded_length, segment_softmax, unpad
from aqcl.layers import Activation, Sizes
from aqcl.tower import Tower, TowerOptions


@settings
class DIENOptions(TowerOptions):
    """Options of the backbone `dien`."""

    activation: Activation = "dice"
    """Activation of the top network."""
    attention_sizes: Sizes = (80, 40)
    """Hidden sizes of the attention unit."""
    attention_activation: Activation = "sigmoid"
    """Activation inside the attention unit."""


class AUGRU(nn.Module):
    """A GRU whose update gate is scaled by attention; gives the state after the last click.

    Gates stand in the order reset, update, new. The update gate is the share of the new state. A
    click without attention leaves the state as it is, and a row without clicks keeps zero.

    Reference: arXiv 1809.03672, interest evolving layer, GRU with attentional update gate.
    """

    def __init__(self, n_inputs: int, state_dim: int) -> None:
        super().__init__()
        self.state_dim = state_dim
        self.of_input = nn.Linear(n_inputs, 3 * state_dim)
        self.of_state = nn.Linear(state_dim, 3 * state_dim)

    def forward(
        self,
        inputs: Float[Tensor, "S I"],
        weights: Float[Tensor, " S"],
        segment: Int[Tensor, " S"],
        offsets: Int[Tensor, " bounds"],
        length: int,
    ) -> Float[Tensor, "B state"]:
        # Padding has no attention, so that what comes last is the state after the last click.
        attention = pad(weights[:, None], segment, offsets, length)
        gates = pad(self.of_input(inputs), segment, offsets, length)
        state = inputs.new_zeros(len(offsets) - 1, self.state_dim)
        for place in range(length):
            reset, update, new = gates[:, place].chunk(3, dim=1)
            state_reset, state_update, state_new = self.of_state(state).chunk(3, dim=1)
            reset = torch.sigmoid(reset + state_reset)
            update = attention[:, place] * torch.sigmoid(update + state_update)
            new = torch.tanh(new + reset * state_new)
            state = state + update * (new - state)
        return state


class DIEN(nn.Module):
    """Deep Interest Evolution Network.

    A GRU over the clicks gives the interest after each; the interests that matter for the
    candidate evolve in an AUGRU. Input of the top network: user, candidate, last evolved interest,
    context. An empty history is the zero vector.

    The auxiliary loss of the paper is the regularizer `dien`: DIEN as published is this backbone
    with that regularizer.

    Reference: arXiv 1809.03672.
    """

    Options: ClassVar[type] = DIENOptions

    def __init__(self, facts: Facts, options: DIENOptions) -> None:
        super().__init__()
        self.max_history = facts.max_history
        self.embeddings = Embeddings(facts, options)
        width, sizes = self.embeddings.item_width, options.attention_sizes
        self.extractor = nn.GRU(width, width, batch_first=True)
        # NOTE[DIFF]: a click's attention is the softmax of DIN's unit for the candidate and the
        # state, as in the official code but without its layer on the candidate.
        self.attention = TargetAttention(width, sizes, options.attention_activation)
        # A softmax follows, which no constant changes.
        self.attention.last = nn.Linear(sizes[-1], 1, bias=False)
        self.evolution = AUGRU(width, width)
        # NOTE[DIFF]: the top network of the official code also sees the sum of the clicks, and
        # sum * candidate.
        n_inputs = self.embeddings.user_width + 2 * width + self.embeddings.context_width
        self.top = Tower(n_inputs, options)
        self.head = nn.Linear(options.sizes[-1], 1)
        self.latent_dim = options.sizes[-1]
        self.state_dim = width

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        assert isinstance(options, DIENOptions)
        return cls(facts, options)

    def embed(self, batch: Batch) -> Embedded:
        embedded: Embedded = self.embeddings(batch)
        return embedded

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        user, interest = self.embeddings.user_vector(embedded), self.interest(embedded)
        parts = [user, embedded.item_vector, interest, embedded.context_vector]
        latent: Tensor = self.top(torch.cat(parts, dim=1), embedded.activity)
        return latent

    def states(self, embedded: Embedded) -> Float[Tensor, "S state"]:
        """The interest after each click that no view masked."""
        embedded = embedded.without_masked()
        segment, offsets = embedded.segment, embedded.offsets
        length = padded_length(offsets, self.max_history)
        # Behind the last click stand zeros, which no state before them sees.
        states, _ = self.extractor(pad(embedded.history_vectors, segment, offsets, length))
        return unpad(states, segment, offsets)

    def interest(self, embedded: Embedded) -> Float[Tensor, "B state"]:
        """The last evolved interest of each row."""
        embedded = embedded.without_masked()
        segment, offsets = embedded.segment, embedded.offsets
        states = self.states(embedded)
        scores = self.attention(embedded.item_vector, states, segment)
        weights = segment_softmax(scores, segment, embedded.item.shape[0])
        length = padded_length(offsets, self.max_history)
        evolved: Tensor = self.evolution(states, weights, segment, offsets, length)
        return evolved

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        logit: Tensor = self.head(latent).squeeze(1) + embedded.linear
        return logit

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        return self.embeddings.items(ids)

    def embedding_tables(self) -> list[nn.Parameter]:
        return self.embeddings.tables()
