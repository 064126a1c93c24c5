"""SASRec as a CTR model: self-attention over the clicks gives the state of the user."""

from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Tensor, nn

from aqcl.attention import SelfAttentionBlock, check_heads
from aqcl.batch import Batch, Embedded
from aqcl.config import settings
from aqcl.contracts import Facts
from aqcl.embeddings import Embeddings
from aqcl.jagged import pad, padded_length, present, recency, unpad
from aqcl.layers import Dropout, look_up
from aqcl.tower import Tower, TowerOptions


@settings
class SASRecOptions(TowerOptions):
    """Options of the backbone `sasrec`; its dropout acts on clicks and in the blocks too."""

    n_blocks: Annotated[int, Bounds(ge=1)] = 2
    """Blocks of self-attention."""
    n_heads: Annotated[int, Bounds(ge=1)] = 1
    """Heads of attention; must divide the width of a click, its fields side by side."""


class SASRec(nn.Module):
    """Causal self-attention over the clicks; their last state meets the candidate in an MLP.

    Input of the top network: user, candidate, state, state * candidate, context. The state of an
    empty history is the zero vector.

    Reference: arXiv 1808.09781, section 3.
    """

    # NOTE[DIFF]: SASRec is trained to tell the next click after each click from a drawn item; here
    # the states learn from the logloss of the candidate alone. The regularizer `dien` asks them for
    # the next click.

    Options: ClassVar[type] = SASRecOptions

    def __init__(self, facts: Facts, options: SASRecOptions) -> None:
        super().__init__()
        self.max_history = facts.max_history
        self.embeddings = Embeddings(facts, options)
        width = self.embeddings.item_width
        check_heads("backbone.n_heads", options.n_heads, width)
        # NOTE[DIFF]: SASRec counts positions from the oldest click of a fixed window; here the
        # latest click is number 0, so that no position depends on the length of the window.
        self.positions = nn.Parameter(torch.empty(facts.max_history, width))
        nn.init.normal_(self.positions, std=options.embedding_std)
        self.dropout = Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(width, options.n_heads, width, options.dropout)
            for _ in range(options.n_blocks)
        )
        self.norm = nn.LayerNorm(width)
        n_inputs = self.embeddings.user_width + 3 * width + self.embeddings.context_width
        self.top = Tower(n_inputs, options)
        self.head = nn.Linear(options.sizes[-1], 1)
        self.latent_dim = options.sizes[-1]
        self.state_dim = width

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        assert isinstance(options, SASRecOptions)
        return cls(facts, options)

    def embed(self, batch: Batch) -> Embedded:
        embedded: Embedded = self.embeddings(batch)
        return embedded

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        embedded = embedded.without_masked()
        states, offsets = self.states(embedded), embedded.offsets
        # A row without clicks takes the zero vector that stands behind all states.
        behind = torch.cat([states, states.new_zeros(1, self.state_dim)])
        last = torch.where(offsets.diff() > 0, offsets[1:] - 1, states.shape[0])
        state = behind.index_select(0, last)
        user, candidate = self.embeddings.user_vector(embedded), embedded.item_vector
        parts = [user, candidate, state, state * candidate, embedded.context_vector]
        latent: Tensor = self.top(torch.cat(parts, dim=1), embedded.activity)
        return latent

    def states(self, embedded: Embedded) -> Float[Tensor, "S state"]:
        """The state after each click that no view masked."""
        embedded = embedded.without_masked()
        segment, offsets = embedded.segment, embedded.offsets
        number = recency(segment, offsets).clamp(max=self.max_history - 1)
        clicks = self.dropout(embedded.history_vectors + look_up(self.positions, number))
        length = padded_length(offsets, self.max_history)
        padded, mask = pad(clicks, segment, offsets, length), present(offsets, length)
        for block in self.blocks:
            padded = block(padded, mask, causal=True)
        return unpad(self.norm(padded), segment, offsets)

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        logit: Tensor = self.head(latent).squeeze(1) + embedded.linear
        return logit

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        return self.embeddings.items(ids)

    def embedding_tables(self) -> list[nn.Parameter]:
        return self.embeddings.tables()
