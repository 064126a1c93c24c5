"""Deep Match to Rank: how relevant a candidate is to a user, as two numbers among the inputs."""

import dataclasses
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Tensor, nn

from aqcl.attention import TargetAttention
from aqcl.batch import Batch, Embedded
from aqcl.config import settings
from aqcl.contracts import Facts
from aqcl.embeddings import Embeddings
from aqcl.jagged import recency, segment_softmax, segment_sum, weighted_sum
from aqcl.layers import Activation, Sizes, activation
from aqcl.tower import Tower, TowerOptions


@settings
class DMROptions(TowerOptions):
    """Options of the backbone `dmr`."""

    activation: Activation = "prelu"
    """Activation of the top network."""
    attention_sizes: Sizes = (80, 40)
    """Hidden sizes of both attention units."""
    attention_activation: Activation = "sigmoid"
    """Activation inside both attention units."""
    position_dim: Annotated[int, Bounds(ge=1)] = 8
    """Width of the vectors of positions."""


class QueriedAttention(nn.Module):
    """The score of each click for a query made of its position and, where given, the candidate.

    query_t = PReLU(W [candidate, position_t]); score_t = MLP([q, e_t, q - e_t, q * e_t]). The
    latest click is position 0.

    Reference: Lyu et al., AAAI 2020; lvze92/DMR, `deep_match` and `dmr_fcn_attention`.
    """

    def __init__(self, width: int, candidate_width: int, length: int, options: DMROptions) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, options.position_dim))
        nn.init.normal_(self.table, std=options.embedding_std)
        self.query = nn.Sequential(
            nn.Linear(candidate_width + options.position_dim, width), activation("prelu", width)
        )
        self.unit = TargetAttention(width, options.attention_sizes, options.attention_activation)

    def forward(
        self, embedded: Embedded, candidate: Float[Tensor, "B C"] | None
    ) -> Float[Tensor, " S"]:
        segment = embedded.segment
        about = self.table.index_select(0, recency(segment, embedded.offsets))
        if candidate is not None:
            about = torch.cat([candidate.index_select(0, segment), about], dim=1)
        each = torch.arange(len(segment), device=segment.device)
        scores: Tensor = self.unit(self.query(about), embedded.history_vectors, each)
        return scores


class DMR(nn.Module):
    """Deep Match to Rank.

    The user-to-item network attends to the clicks without the candidate and gives u . v', with v'
    from a table of output vectors; the item-to-item network attends to them with the candidate and
    gives the attended history and the sum of its scores before the softmax. Input of the top
    network: user, candidate, context, attended history, u . v', sum of scores.

    Reference: Lyu et al., Deep Match to Rank Model for Personalized Click-Through Rate Prediction,
    AAAI 2020; official code lvze92/DMR.
    """

    # NOTE[DIFF]: DMR's auxiliary loss trains the user-to-item network and its output vectors; here
    # the regularizer `dmr` has a network and a table of its own, so that these learn from the
    # logloss alone. There are no types of behaviour, and so no embeddings of them.

    Options: ClassVar[type] = DMROptions

    def __init__(self, facts: Facts, options: DMROptions) -> None:
        super().__init__()
        self.embeddings = Embeddings(facts, options, outputs=True)
        width, length, dim = self.embeddings.item_width, facts.max_history, options.embedding_dim
        self.without_candidate = QueriedAttention(width, 0, length, options)
        # Only a softmax follows, which no constant changes.
        self.without_candidate.unit.last = nn.Linear(options.attention_sizes[-1], 1, bias=False)
        self.project = nn.Sequential(nn.Linear(width, dim), activation("prelu", dim))
        self.with_candidate = QueriedAttention(width, width, length, options)
        # NOTE[DIFF]: the inputs are the paper's; the top network of the official code also sees the
        # sum of the clicks, and sum * candidate, and normalises its inputs by the batch.
        n_inputs = self.embeddings.user_width + 2 * width + self.embeddings.context_width + 2
        self.top = Tower(n_inputs, options)
        self.head = nn.Linear(options.sizes[-1], 1)
        self.latent_dim = options.sizes[-1]

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        assert isinstance(options, DMROptions)
        return cls(facts, options)

    def embed(self, batch: Batch) -> Embedded:
        embedded: Embedded = self.embeddings(batch)
        return embedded

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        embedded = embedded.without_masked()
        if embedded.scores is None:
            embedded = self.attend(embedded)
        scores, segment, n_rows = embedded.scores, embedded.segment, embedded.item.shape[0]
        assert scores is not None
        parts = [
            self.embeddings.user_vector(embedded),
            embedded.item_vector,
            embedded.context_vector,
            attended(scores, embedded),
            self.relevance(embedded)[:, None],
            segment_sum(scores[:, None], segment, n_rows),
        ]
        latent: Tensor = self.top(torch.cat(parts, dim=1), embedded.activity)
        return latent

    def attend(self, embedded: Embedded) -> Embedded:
        scores = self.with_candidate(embedded, embedded.item_vector)
        return dataclasses.replace(embedded, scores=scores)

    def relevance(self, embedded: Embedded) -> Float[Tensor, " B"]:
        """The product u . v' of each row, 0 for an unknown candidate; nothing may be masked."""
        assert embedded.item_output is not None
        interest = attended(self.without_candidate(embedded, None), embedded)
        relevance: Tensor = (self.project(interest) * embedded.item_output).sum(1)
        return relevance

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        logit: Tensor = self.head(latent).squeeze(1) + embedded.linear
        return logit

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        return self.embeddings.items(ids)

    def embedding_tables(self) -> list[nn.Parameter]:
        return self.embeddings.tables()


def attended(scores: Float[Tensor, " S"], embedded: Embedded) -> Float[Tensor, "B width"]:
    """The clicks of each row, weighted by the softmax of their scores."""
    segment, n_rows = embedded.segment, embedded.item.shape[0]
    weights = segment_softmax(scores, segment, n_rows)
    return weighted_sum(weights, embedded.history_vectors, segment, n_rows)
