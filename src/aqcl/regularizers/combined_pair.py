"""Combined-Pair: beside the logloss, every positive should score above every negative."""

from typing import Annotated, ClassVar, Literal, Self

from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step


@settings
class CombinedPairOptions:
    """Options of the regularizer `combined-pair`."""

    weight: Annotated[float, Bounds(ge=0)] = 0.1
    """(1 - a) / a, where the paper has a * logloss + (1 - a) * this; its code uses a from 0.6 to
    0.9, which is 0.67 to 0.11 here."""
    pairs: Literal["batch", "user"] = "batch"
    """Pairs of all samples of the `batch`, or only those of one `user`."""


class CombinedPair(nn.Module):
    """RankNet's loss on the logits, which keeps gradients on negatives when positives are rare.

    Reference: arXiv 2403.14144, Combined-Pair; src/DCNv2CombinedPair.py in
    SkylerLinn/Understanding-the-Ranking-Loss.
    """

    Options: ClassVar[type] = CombinedPairOptions

    def __init__(self, options: CombinedPairOptions | None = None) -> None:
        super().__init__()
        self.options = options or CombinedPairOptions()
        self.weight = self.options.weight

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, CombinedPairOptions)
        return cls(options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        # NOTE[DIFF]: the paper has a * logloss + (1 - a) * pairs; here the logloss stays whole and
        # the pairs are weighted by (1 - a) / a, the same up to the scale of the sum.
        user = step.batch.user if self.options.pairs == "user" else None
        value = pair_loss(step.logit, step.batch.label, user)
        return LossTerm.of(value)


def pair_loss(
    logit: Float[Tensor, " B"], label: Float[Tensor, " B"], user: Int[Tensor, " B"] | None = None
) -> Float[Tensor, ""]:
    """Mean of -log sigmoid(s+ - s-) over all pairs of a positive and a negative; 0 without pairs.

    Args:
        logit: s.
        label: 1 for positives, 0 for negatives.
        user: where given, only samples of one user are paired.
    """
    clicked = label > 0.5
    behind = logit[~clicked][None, :] - logit[clicked][:, None]
    if user is not None:
        behind = behind[user[~clicked][None, :] == user[clicked][:, None]]
    return F.softplus(behind).sum() / max(behind.numel(), 1)
