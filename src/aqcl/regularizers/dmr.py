"""DMR's auxiliary matching loss: the earlier clicks of a user must find the latest one."""

from typing import Annotated, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from aqcl.attention import TargetAttention
from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step, field_width, item_width
from aqcl.jagged import segment_softmax, weighted_sum
from aqcl.layers import Sizes, activation, look_up
from aqcl.schema import FIRST_ID

INITIAL_STD = 0.01
"""Of the query and of the table of output vectors."""


@settings
class DMROptions:
    """Options of the regularizer `dmr`."""

    weight: Annotated[float, Bounds(ge=0)] = 0.1
    """Scales the loss; the official code has 0.1."""
    loss: Literal["sampled", "full"] = "sampled"
    """`sampled` is the negative sampling of the paper; `full` is a softmax over all items, whose
    cost grows with their number."""
    n_negatives: Annotated[int, Bounds(ge=1)] = 10
    """Items drawn for each sample by the loss `sampled`."""
    attention_sizes: Sizes = (80, 40)
    """Hidden sizes of the attention unit."""


class DMR(nn.Module):
    """Attention over all clicks but the latest, for no candidate, predicts the latest.

    The user is u = PReLU(W sum over t of a_t e_t), where a is the softmax of the scores of a
    learned query for each click. An item is a row of a table of output vectors of its own. Samples
    with fewer than two clicks do not count.

    Reference: Lyu et al., Deep Match to Rank, AAAI 2020, auxiliary match network; its official
    code, lvze92/DMR, `deep_match`.
    """

    Options: ClassVar[type] = DMROptions

    def __init__(
        self, width: int, dim: int, n_items: int, options: DMROptions | None = None
    ) -> None:
        super().__init__()
        self.options = options or DMROptions()
        self.weight = self.options.weight
        # NOTE[DIFF]: there are no position and behaviour-type embeddings, so DMR's query of each
        # position is one learned vector.
        self.query = nn.Parameter(torch.empty(width))
        sizes = self.options.attention_sizes
        self.attention = TargetAttention(width, sizes, "sigmoid")
        # A softmax follows, which no constant changes.
        self.attention.last = nn.Linear(sizes[-1], 1, bias=False)
        self.project = nn.Sequential(nn.Linear(width, dim), activation("prelu", dim))
        # NOTE[DIFF]: the embedding penalty acts on the tables of the backbone alone, so not on
        # these output vectors, which Adam updates whole whatever optimizer the tables have.
        self.outputs = nn.Parameter(torch.empty(n_items, dim))
        for parameter in (self.query, self.outputs):
            nn.init.normal_(parameter, std=INITIAL_STD)

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, DMROptions)
        return cls(item_width(backbone), field_width(backbone), facts.schema.n_items, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        # NOTE[DIFF]: the mean is over the samples with two clicks or more; the official code's is
        # over all, the others counting with a zero user vector. Negatives are drawn uniformly for
        # each sample; the official code shares 2,000, drawn by popularity, in a sampled softmax.
        keep, history = step.embedded.keep, step.batch.history
        embedded = step.embedded.without_masked()
        ids = history if keep is None else history[keep]
        rows = (embedded.offsets.diff() > 1).nonzero().squeeze(1)
        latest = ids[embedded.offsets[1:][rows] - 1]
        known = (latest >= FIRST_ID) & (latest < len(self.outputs))
        rows, latest = rows[known], latest[known]
        users = self.users(embedded).index_select(0, rows)
        if self.options.loss == "full":
            value = full_loss(users, self.outputs[FIRST_ID:], latest - FIRST_ID)
        else:
            shape = (len(rows), self.options.n_negatives)
            drawn = torch.randint(
                FIRST_ID, len(self.outputs), shape, generator=step.generator, device=rows.device
            )
            value = sampled_loss(users, self.outputs, latest, drawn)
        return LossTerm.of(value)

    def users(self, embedded: Embedded) -> Float[Tensor, "B dim"]:
        """The user of each row as its clicks before the latest tell; nothing may be masked."""
        n_rows, offsets = embedded.item.shape[0], embedded.offsets
        earlier = torch.ones_like(embedded.segment, dtype=torch.bool)
        earlier[offsets[1:][offsets.diff() > 0] - 1] = False
        segment, clicks = embedded.segment[earlier], embedded.history_vectors[earlier]
        scores = self.attention(self.query.expand(n_rows, -1), clicks, segment)
        weights = segment_softmax(scores, segment, n_rows)
        users: Tensor = self.project(weighted_sum(weights, clicks, segment, n_rows))
        return users


def sampled_loss(
    users: Float[Tensor, "R D"],
    outputs: Float[Tensor, "N D"],
    latest: Int[Tensor, " R"],
    negatives: Int[Tensor, "R K"],
) -> Float[Tensor, ""]:
    """Mean of -log sig(u . v'_T) - sum over k of log sig(-u . v'_k); zero without a row.

    Args:
        users: u, one for each row.
        outputs: v', one for each item.
        latest: T, the item that the user clicked last.
        negatives: the items k drawn against it.

    Reference: Lyu et al., AAAI 2020, the loss with negative sampling of the match network.
    """
    near = F.softplus(-(users * look_up(outputs, latest)).sum(1))
    far = F.softplus(torch.einsum("rd,rkd->rk", users, look_up(outputs, negatives))).sum(1)
    return (near + far).sum() / max(len(users), 1)


def full_loss(
    users: Float[Tensor, "R D"], outputs: Float[Tensor, "N D"], latest: Int[Tensor, " R"]
) -> Float[Tensor, ""]:
    """Mean of -log softmax(u . v') at the latest click, over all items; zero without a row.

    Reference: Lyu et al., AAAI 2020, the softmax and cross-entropy of the match network.
    """
    total = F.cross_entropy(users @ outputs.T, latest, reduction="sum")
    return total / max(len(users), 1)
