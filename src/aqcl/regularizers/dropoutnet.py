"""DropoutNet: the model must sometimes predict without knowing who the user or the item is."""

import dataclasses
from typing import Annotated, ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn

from aqcl.batch import Embedded
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step


@settings
class DropoutNetOptions:
    """Options of the regularizer `dropoutnet`."""

    weight: Annotated[float, Bounds(ge=0)] = 1.0
    """0 switches it off; any other number switches it on, as there is no loss to scale."""
    user_rate: Annotated[float, Bounds(ge=0, le=1)] = 0.5
    """Probability that a sample loses its user id; not used in mode `mean`."""
    item_rate: Annotated[float, Bounds(ge=0, le=1)] = 0.5
    """Probability that a sample loses its candidate id; in mode `mean` that a batch does."""
    mode: Literal["zero", "mean"] = "zero"
    """`zero`: ids of single samples become the zero vector, users and candidates on their own.
    `mean`: the ids of all candidates of a batch become their mean; 0.1 is a usual `item_rate`."""


class DropoutNet(nn.Module):
    """Hides ids in training; side features and the history stay, and nothing is rescaled.

    Reference: M. Volkovs, G. Yu, T. Poutanen, DropoutNet: Addressing Cold Start in Recommender
    Systems, NeurIPS 2017; mode `mean` as in the code of CVAR (SIGIR 2022), BestActionNow/CVAR.
    """

    Options: ClassVar[type] = DropoutNetOptions

    def __init__(self, options: DropoutNetOptions | None = None) -> None:
        super().__init__()
        self.options = options or DropoutNetOptions()
        self.weight = self.options.weight

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, DropoutNetOptions)
        return cls(options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        # NOTE[DIFF]: the loss stays that of the clicks, where DropoutNet regresses the scores of a
        # trained factorisation; each sample is drawn by itself, not a fixed share of the batch;
        # the first-order weights of ids in a wide part stay. A new id is not asked in the way that
        # was trained: hidden ids are zero vectors here, and in evaluation a new id is the unknown
        # id, whose vector id dropout trains.
        options = self.options
        if options.mode == "mean":
            return mean_item_ids(embedded, options.item_rate, generator)
        return drop_ids(embedded, options.user_rate, options.item_rate, generator)

    def loss(self, step: Step) -> None:
        return None


def drop_ids(
    embedded: Embedded, user_rate: float, item_rate: float, generator: Generator
) -> Embedded:
    """The id of each user and of each candidate becomes zero with its probability."""
    kept_users = _kept(embedded.user, user_rate, generator)
    kept_items = _kept(embedded.item, item_rate, generator)
    user_id = embedded.user[:, 0] * kept_users
    user = torch.cat([user_id[:, None], embedded.user[:, 1:]], dim=1)
    return dataclasses.replace(embedded, user=user).with_item_id(lambda own: own * kept_items)


def mean_item_ids(embedded: Embedded, rate: float, generator: Generator) -> Embedded:
    """The ids of all candidates become their mean at once with probability `rate`."""
    # NOTE[DIFF]: the mean is that of the batch's candidates, as no table is in sight here; like
    # the mean of the table that it stands for, it has no gradient.
    draw = torch.rand((), generator=generator, device=embedded.item.device)
    return embedded.with_item_id(lambda own: torch.where(draw < rate, own.detach().mean(0), own))


def _kept(
    vectors: Float[Tensor, "B F d"], rate: float, generator: Generator
) -> Bool[Tensor, "B 1"]:
    draw = torch.rand(len(vectors), generator=generator, device=vectors.device)
    return (draw >= rate)[:, None]
