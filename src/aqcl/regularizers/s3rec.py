"""S3-Rec: clicks hidden in the history must be told from items drawn at random."""

from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl.attention import SelfAttentionBlock, check_heads
from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step, item_width
from aqcl.jagged import pad, padded_length, present, recency, unpad
from aqcl.layers import look_up
from aqcl.schema import FIRST_ID

INITIAL_STD = 0.02
"""Of the mask vector and the positions, as in the official code."""


@settings
class S3RecOptions:
    """Options of the regularizer `s3rec`."""

    weight: Annotated[float, Bounds(ge=0)] = 1.0
    """Coefficient of the loss, as in the official code."""
    mask_rate: Annotated[float, Bounds(ge=0, le=1)] = 0.2
    """Probability that a click is hidden; the last click of a history always is."""
    n_negatives: Annotated[int, Bounds(ge=1)] = 1
    """Items drawn against each hidden click; the official code draws one."""
    n_layers: Annotated[int, Bounds(ge=1)] = 2
    """Layers of the transformer."""
    n_heads: Annotated[int, Bounds(ge=1)] = 2
    """Heads of its attention; must divide the width of an item's fields side by side."""
    hidden_dim: Annotated[int, Bounds(ge=1)] = 64
    """Width of the hidden layer behind each attention."""
    dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.2
    """Dropout of the transformer; the official code has 0.5."""


class S3Rec(nn.Module):
    """Masked item prediction with a bidirectional transformer of its own over the clicks.

    The latest click has position 0, whatever the length of its history.

    Reference: arXiv 2008.07873, section 4 (masked item prediction);
    github.com/RUCAIBox/CIKM2020-S3Rec, `pretrain` in models.py.
    """

    # NOTE[DIFF]: S3-Rec pre-trains with four tasks; here masked item prediction alone is an
    # auxiliary loss beside the clicks, averaged over the hidden clicks and not summed, and a drawn
    # item may stand in the history. The transformer's input has no normalisation and no dropout,
    # its attention weights have no dropout, and its layers, which have ReLU for GELU, normalise
    # before and not behind.

    Options: ClassVar[type] = S3RecOptions

    def __init__(
        self, item_width: int, n_items: int, max_history: int, options: S3RecOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options or S3RecOptions()
        check_heads("regularizer.s3rec.n_heads", self.options.n_heads, item_width)
        self.weight = self.options.weight
        self.n_items = n_items
        self.max_history = max_history
        self.mask = nn.Parameter(torch.empty(item_width))
        self.positions = nn.Parameter(torch.empty(max_history, item_width))
        for parameter in (self.mask, self.positions):
            nn.init.normal_(parameter, std=INITIAL_STD)
        sizes = (self.options.n_heads, self.options.hidden_dim, self.options.dropout)
        self.layers = nn.ModuleList(
            SelfAttentionBlock(item_width, *sizes) for _ in range(self.options.n_layers)
        )
        self.norm = nn.LayerNorm(item_width)
        self.match = nn.Linear(item_width, item_width)

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, S3RecOptions)
        return cls(item_width(backbone), facts.schema.n_items, facts.max_history, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        embedded = step.embedded.without_masked()
        hidden = hide(embedded.segment, embedded.offsets, self.options.mask_rate, step.generator)
        predicted = self.predict(embedded, hidden)
        shape = (len(predicted), self.options.n_negatives)
        ids = torch.randint(
            FIRST_ID, self.n_items, shape, generator=step.generator, device=predicted.device
        )
        negatives = step.backbone.embed_items(ids.flatten()).view(*shape, predicted.shape[1])
        value = masked_item_loss(predicted, embedded.history_vectors[hidden], negatives)
        return LossTerm.of(value)

    def predict(
        self, embedded: Embedded, hidden: Bool[Tensor, " S"]
    ) -> Float[Tensor, "hidden width"]:
        """What each hidden click is expected to be, from the others and its place."""
        segment, offsets = embedded.segment, embedded.offsets
        seen = torch.where(hidden[:, None], self.mask, embedded.history_vectors)
        placed = seen + look_up(self.positions, recency(segment, offsets))
        length = padded_length(offsets, self.max_history)
        cells, mask = pad(placed, segment, offsets, length), present(offsets, length)
        for layer in self.layers:
            cells = layer(cells, mask, causal=False)
        states = unpad(cells, segment, offsets)[hidden]
        predicted: Tensor = self.match(self.norm(states))
        return predicted


def hide(
    segment: Int[Tensor, " S"], offsets: Int[Tensor, " bounds"], rate: float, generator: Generator
) -> Bool[Tensor, " S"]:
    """Which clicks are hidden: each with probability `rate`, and the last of every row.

    Reference: github.com/RUCAIBox/CIKM2020-S3Rec, `PretrainDataset` in datasets.py.
    """
    draw = torch.rand(segment.shape, generator=generator, device=segment.device)
    return (draw < rate) | (recency(segment, offsets) == 0)


def masked_item_loss(
    predicted: Float[Tensor, "M D"], item: Float[Tensor, "M D"], negatives: Float[Tensor, "M n D"]
) -> Float[Tensor, ""]:
    """Mean of -log [exp f(i) / (exp f(i) + sum over n of exp f(n))] with f(x) = sig(p . x).

    With one negative this is the official code's -log sig(f(i) - f(n)).

    Args:
        predicted: p = W F of each hidden click, F its state.
        item: vectors i of the hidden clicks.
        negatives: vectors n of the items drawn against each.

    Reference: arXiv 2008.07873, section 4 (masked item prediction).
    """
    positive = torch.sigmoid((predicted * item).sum(1))
    negative = torch.sigmoid(torch.einsum("md,mnd->mn", predicted, negatives))
    scores = torch.cat([positive[:, None], negative], dim=1)
    return (scores.logsumexp(1) - positive).sum() / max(len(predicted), 1)
