"""CLCRec: an item's id must be found from its content, and a user's items from either."""

from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step, field_width
from aqcl.contrastive import unit
from aqcl.errors import ConfigError
from aqcl.schema import FIRST_ID


@settings
class CLCRecOptions:
    """Options of the regularizer `clcrec`, which needs a dataset with item attributes."""

    weight: Annotated[float, Bounds(ge=0)] = 0.05
    """Scales the loss."""
    mix: Annotated[float, Bounds(ge=0, le=1)] = 0.5
    """lambda, the share of the contrast of ids with contents; the rest is that of users with
    items. The official code has 1, which suits models that see no user id, too: with
    `backbone.user_id = false` that contrast trains nothing."""
    replace_rate: Annotated[float, Bounds(ge=0, le=1)] = 0.5
    """Probability that a user is contrasted with the content of an item in place of its id."""
    temperature: Annotated[float, Bounds(gt=0)] = 1.0
    """Temperature of both contrasts, as in the official code."""
    n_negatives: Annotated[int, Bounds(ge=1)] = 512
    """Items drawn for each step; the same item drawn twice counts once."""
    hidden_dim: Annotated[int, Bounds(ge=1)] = 256
    """Width of the hidden layer of the content encoder."""


class CLCRec(nn.Module):
    """Maximises what contents tell of ids, so that ids learn from items with similar contents.

    Reference: arXiv 2107.05315 and its official code, weiyinwei/CLCRec.
    """

    Options: ClassVar[type] = CLCRecOptions

    def __init__(
        self, dim: int, n_attributes: int, n_items: int, options: CLCRecOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options or CLCRecOptions()
        self.weight = self.options.weight
        self.n_items = n_items
        hidden_dim = self.options.hidden_dim
        self.encoder = nn.Sequential(
            nn.Linear(n_attributes * dim, hidden_dim),
            nn.LeakyReLU(0.01),
            nn.Linear(hidden_dim, dim),
        )

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, CLCRecOptions)
        n_attributes = len(facts.schema.on("item"))
        if n_attributes == 0:
            raise ConfigError(
                "regularizer.clcrec: needs item attributes, and the model sees none; use a dataset "
                "with item columns and name one in fields, or leave clcrec out"
            )
        return cls(field_width(backbone), n_attributes, facts.schema.n_items, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        # NOTE[DIFF]: the samples of a batch share their negatives, of which only the candidate
        # itself is left out, not everything that the user clicked; samples without a click do not
        # count; there is no norm penalty; the model scores as without this loss, where CLCRec
        # scores a new item by its content encoding.
        options, label = self.options, step.batch.label
        ids = torch.randint(
            FIRST_ID,
            self.n_items,
            (options.n_negatives,),
            generator=step.generator,
            device=label.device,
        ).unique()
        drawn, item = step.backbone.embed_items(ids), step.embedded.item
        content, others = self.encode(item), self.encode(drawn)
        same = ids == step.batch.item[:, None]
        alignment = contrast(
            unit(item[:, 0]),
            unit(content),
            unit(others),
            same,
            temperature=options.temperature,
        )
        preference = contrast(
            step.embedded.user[:, 0],
            self._replace(item[:, 0], content, step.generator),
            self._replace(drawn[:, 0], others, step.generator),
            same,
            temperature=options.temperature,
        )
        losses = options.mix * alignment + (1.0 - options.mix) * preference
        value = (losses * label).sum() / label.sum().clamp(min=1.0)
        return LossTerm.of(value)

    def encode(self, items: Float[Tensor, "N F d"]) -> Float[Tensor, "N d"]:
        """Content encodings of items, made of all their fields but the id."""
        encoding: Tensor = self.encoder(items[:, 1:].flatten(1))
        return encoding

    def _replace(self, own: Tensor, content: Tensor, generator: Generator) -> Float[Tensor, "N d"]:
        draw = torch.rand(len(own), generator=generator, device=own.device)
        return torch.where((draw < self.options.replace_rate)[:, None], content, own)


def contrast(
    anchors: Float[Tensor, "B d"],
    positives: Float[Tensor, "B d"],
    negatives: Float[Tensor, "N d"],
    same: Bool[Tensor, "B N"],
    *,
    temperature: float,
) -> Float[Tensor, " B"]:
    """-log of the share of the own positive among it and the negatives, by dot products.

    Args:
        anchors: what must find its positive.
        positives: one for each anchor.
        negatives: shared by all anchors.
        same: which negatives are the positive of an anchor and do not count for it.
        temperature: divides the dot products.

    Reference: `loss_contrastive` of weiyinwei/CLCRec.
    """
    own = (anchors * positives).sum(1) / temperature
    among = (anchors @ negatives.T / temperature).masked_fill(same, -torch.inf)
    return torch.cat([own[:, None], among], dim=1).logsumexp(1) - own
