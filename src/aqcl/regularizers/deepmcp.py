"""DeepMCP: users must match what they click, and clicks that follow each other must correlate."""

from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field as Bounds
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from aqcl.batch import Embedded, LossTerm
from aqcl.config import settings
from aqcl.contracts import Backbone, Facts, Step, field_width, item_width
from aqcl.contrastive import precise
from aqcl.jagged import segment_mean
from aqcl.layers import Sizes, tanh_mlp
from aqcl.schema import FIRST_ID


@settings
class DeepMCPOptions:
    """Options of the regularizer `deepmcp`."""

    weight: Annotated[float, Bounds(ge=0)] = 1.0
    """Scales both losses together."""
    match: Annotated[float, Bounds(ge=0)] = 1.0
    """Coefficient of the matching loss; the official code has 5."""
    correlation: Annotated[float, Bounds(ge=0)] = 0.01
    """Coefficient of the correlation loss, as in the official code."""
    sizes: Sizes = (64, 32)
    """Sizes of each of the three towers; the official code has 512 and 256 on larger inputs."""
    window: Annotated[int, Bounds(ge=1)] = 2
    """Clicks of one history that are at most so many places apart are neighbours."""
    n_negatives: Annotated[int, Bounds(ge=1)] = 4
    """Items drawn against each click, as in the official code."""


class DeepMCP(nn.Module):
    """A matching subnet and a correlation subnet beside the model, which is the prediction subnet.

    Reference: arXiv 1906.04365 and its official code, oywtece/deepmcp.
    """

    Options: ClassVar[type] = DeepMCPOptions

    def __init__(
        self, user_width: int, item_width: int, n_items: int, options: DeepMCPOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options or DeepMCPOptions()
        self.weight = self.options.weight
        self.n_items = n_items
        sizes = self.options.sizes
        self.user_tower = tanh_mlp(user_width + item_width, sizes)
        self.item_tower = tanh_mlp(item_width, sizes)
        self.correlation_tower = tanh_mlp(item_width, sizes)

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        assert isinstance(options, DeepMCPOptions)
        schema = facts.schema
        user_width = (1 + len(schema.on("user"))) * field_width(backbone)
        return cls(user_width, item_width(backbone), schema.n_items, options)

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        return embedded

    def loss(self, step: Step) -> LossTerm:
        options, embedded = self.options, step.embedded.without_masked()
        match = self._match(embedded, step.batch.label)
        correlation = self._correlate(step, embedded)
        value = options.match * match + options.correlation * correlation
        return LossTerm.of(value, match=match, correlation=correlation)

    def _match(self, embedded: Embedded, label: Tensor) -> Float[Tensor, ""]:
        n_rows = len(label)
        clicks = segment_mean(embedded.history_vectors, embedded.segment, n_rows)
        user = self.user_tower(torch.cat([embedded.user.flatten(1), clicks], dim=1))
        item = self.item_tower(embedded.item_vector)
        return matching_loss(precise(user), precise(item), label)

    def _correlate(self, step: Step, embedded: Embedded) -> Float[Tensor, ""]:
        # NOTE[DIFF]: pairs come from the histories of the batch, not from a stream of their own,
        # so a pair of clicks counts once for each sample whose history holds it; negatives are
        # drawn uniformly, once for each click and not for each of its pairs.
        clicks = precise(self.correlation_tower(embedded.history_vectors))
        shape = (len(clicks), self.options.n_negatives)
        ids = torch.randint(
            FIRST_ID, self.n_items, shape, generator=step.generator, device=clicks.device
        )
        items = step.backbone.embed_items(ids.flatten()).flatten(1)
        drawn = precise(self.correlation_tower(items))
        negatives = drawn.view(*shape, clicks.shape[1])
        return correlation_loss(clicks, negatives, embedded.segment, window=self.options.window)


def matching_loss(
    user: Float[Tensor, "B D"], item: Float[Tensor, "B D"], label: Float[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Mean logloss of clicks predicted by dot products.

    Reference: arXiv 1906.04365, matching subnet.
    """
    logit = (user * item).sum(1)
    total = F.binary_cross_entropy_with_logits(logit, label, reduction="sum")
    return total / max(len(label), 1)


def correlation_loss(
    clicks: Float[Tensor, "S D"],
    negatives: Float[Tensor, "S n D"],
    segment: Int[Tensor, " S"],
    *,
    window: int,
) -> Float[Tensor, ""]:
    """Skip-gram with negative sampling: E[-log sig(t . c)] + sum over n of E[-log sig(-t . n)].

    The means are over all pairs of a click t and a neighbour c in the same row.

    Args:
        clicks: vectors of all clicks.
        negatives: vectors of the items drawn against each click; serve all pairs of the click.
        segment: row of each click, ascending.
        window: how many places apart neighbours may be.

    Reference: arXiv 1906.04365, correlation subnet.
    """
    n_contexts = clicks.new_zeros(len(clicks))
    near = clicks.new_zeros(())
    for distance in range(1, window + 1):
        same = (segment[distance:] == segment[:-distance]).to(clicks.dtype)
        product = (clicks[distance:] * clicks[:-distance]).sum(1)
        # Each pair twice: either click is the target once.
        near = near + 2.0 * (same * F.softplus(-product)).sum()
        n_contexts[distance:] += same
        n_contexts[:-distance] += same
    far = F.softplus(torch.einsum("sd,snd->sn", clicks, negatives)).sum(1)
    return (near + (n_contexts * far).sum()) / n_contexts.sum().clamp(min=1.0)
